//! `evctl outcomes compare`.

use std::time::SystemTime;

use clap::Args;
use ev_client::{
    Client,
    proto::ev::outcomes::v1::{CompareRequest, CompareResponse, Comparison, comparison::Score},
};

use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{BOLD, DIM, PLAIN},
    table::{Cell, Table},
    telemetry::time,
};

/// See how right the versions of a model were, by what was reported.
#[derive(Debug, Args)]
#[command(after_help = "\
error       mean absolute error of the median, with how well it is known (one standard error),
            in the unit of the model's output
bias        mean of predicted less actual
coverage    share of what happened that lies within q10 and q90; 80 % is what is promised
brier       mean squared error of the probabilities; less is better
calibration mean distance of the probabilities from how often they were right

Answers that said OUT_OF_DISTRIBUTION are not scored.

Examples:
  evctl outcomes compare ev-range
  evctl outcomes compare ev-range --version 3 --version 4 --from 7d
  evctl -o json outcomes compare ev-range | jq '.comparisons[].numbers.mean_absolute_error'")]
pub(crate) struct CompareCommand {
    /// The registered model.
    #[arg(value_name = "MODEL")]
    model: String,
    /// Only this version; may be given several times.
    #[arg(long = "version", value_name = "N")]
    versions: Vec<u32>,
    /// Predictions since: a time, or how long ago [default: all that are kept].
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    from: Option<SystemTime>,
    /// Predictions before [default: now].
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    to: Option<SystemTime>,
    /// Each part of the fleet for itself as well.
    #[arg(long)]
    by_cohort: bool,
}

// === impl CompareCommand ===

impl CompareCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let CompareCommand { model, versions, from, to, by_cohort } = self;
        let (start_time, end_time) = (from.map(time::timestamp), to.map(time::timestamp));
        let request = CompareRequest { model, versions, start_time, end_time, by_cohort };
        let response = client.outcomes().compare(request).await?;
        output.answer(&Json::new("ev.outcomes.v1.CompareResponse", &response), || render(&response))?;
        if response.comparisons.iter().all(|comparison| comparison.reported == 0) {
            output.advise("no outcome was reported; report some with: evctl outcomes report FILE");
        }
        Ok(Exit::Ok)
    }
}

fn render(response: &CompareResponse) -> String {
    let is_numbers = |it: &Comparison| matches!(it.score, Some(Score::Numbers(_)));
    let has_classes = response.comparisons.iter().any(|it| matches!(it.score, Some(Score::Classes(_))));
    let has_numbers = response.comparisons.iter().any(is_numbers) || !has_classes;
    let mut header = vec!["version", "cohort", "predictions", "reported", "scored"];
    if has_numbers {
        header.extend(["error", "bias", "coverage", "width"]);
    }
    if has_classes {
        header.extend(["accuracy", "brier", "calibration"]);
    }
    let mut table = Table::with_header(&header);
    for comparison in &response.comparisons {
        let version = comparison.model.as_ref().map_or(0, |model| model.version).to_string();
        let (cohort, style) = match comparison.cohort.as_deref() {
            None => ("all", BOLD),
            Some("") => ("(not given)", DIM),
            Some(cohort) => (cohort, PLAIN),
        };
        let mut row = vec![
            Cell::styled(version, BOLD),
            Cell::styled(cohort, style),
            comparison.predictions.to_string().into(),
            comparison.reported.to_string().into(),
            comparison.scored.to_string().into(),
        ];
        if has_numbers {
            row.extend(numbers(comparison).map(Cell::from));
        }
        if has_classes {
            row.extend(classes(comparison).map(Cell::from));
        }
        table.push(row);
    }
    table.render()
}

fn numbers(comparison: &Comparison) -> [String; 4] {
    let Some(Score::Numbers(score)) = &comparison.score else { return Default::default() };
    let standard_error = score.absolute_error_deviation / (comparison.scored.max(1) as f64).sqrt();
    // Of one pair, nothing is known of how they differ.
    let known = if comparison.scored > 1 { format!(" ± {}", short(standard_error)) } else { String::new() };
    [
        format!("{}{known}", short(score.mean_absolute_error)),
        format!("{}{}", if score.bias > 0.0 { "+" } else { "" }, short(score.bias)),
        score.interval_coverage.map_or(String::new(), |share| format!("{:.0} %", share * 100.0)),
        score.interval_width.map_or(String::new(), short),
    ]
}

fn classes(comparison: &Comparison) -> [String; 3] {
    let Some(Score::Classes(score)) = &comparison.score else { return Default::default() };
    [
        format!("{:.1} %", score.accuracy * 100.0),
        format!("{:.3}", score.brier_score),
        format!("{:.3}", score.calibration_error),
    ]
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use ev_client::proto::ev::{
        common::v1::ModelVersion,
        outcomes::v1::{ClassScore, NumberScore},
    };

    use super::*;

    fn comparison(cohort: Option<&str>, score: Option<Score>) -> Comparison {
        Comparison {
            model: Some(ModelVersion { name: "ev-range".to_owned(), version: 3, digest: String::new() }),
            cohort: cohort.map(str::to_owned),
            predictions: 120,
            reported: 101,
            scored: 100,
            out_of_distribution: 1,
            unanswered: 0,
            score,
        }
    }

    #[test]
    fn scores_are_rows() {
        let numbers = Score::Numbers(NumberScore {
            mean_absolute_error: 14.26,
            absolute_error_deviation: 8.0,
            root_mean_squared_error: 16.35,
            bias: 2.5,
            interval_coverage: Some(0.81),
            interval_width: Some(104.2),
        });
        let response = CompareResponse {
            comparisons: vec![
                comparison(None, Some(numbers)),
                comparison(Some("AWD"), Some(numbers)),
                comparison(Some(""), None),
            ],
        };
        assert_eq!(
            strip_str(&render(&response)).to_string(),
            "\
VERSION   COHORT        PREDICTIONS   REPORTED   SCORED   ERROR          BIAS    COVERAGE   WIDTH
3         all           120           101        100      14.3 ± 0.800   +2.50   81 %       104
3         AWD           120           101        100      14.3 ± 0.800   +2.50   81 %       104
3         (not given)   120           101        100
"
        );
        let classes = Score::Classes(ClassScore { accuracy: 0.925, brier_score: 0.1234, calibration_error: 0.05 });
        let response = CompareResponse { comparisons: vec![comparison(None, Some(classes))] };
        assert!(strip_str(&render(&response)).to_string().ends_with("92.5 %     0.123   0.050\n"));
    }
}

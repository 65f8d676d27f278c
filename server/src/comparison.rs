//! Two versions' answers to the golden requests of both, side by side.
//!
//! One version is loaded at a time, for the questions alone, on the control runtime.

use std::{sync::Arc, time::Duration};

use ev_models_core::manifest::{Manifest, Output, OutputKind};
use ev_registry::VersionRecord;
use tokio::sync::Semaphore;

use crate::{
    deploy::{Answer, Deployer, NotLoaded, Question, Questions},
    pipeline::Estimate,
};

/// Most golden requests of each version that are asked.
pub(crate) const REQUESTS_MAX: usize = 500;
/// Golden requests of each version that are asked when the caller does not say.
pub(crate) const REQUESTS: usize = 200;
/// Most time that one version is asked for, besides loading it.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Compares versions, one pair at a time: each takes a version's memory beside what serves.
pub(crate) struct Comparer {
    deployer: Arc<Deployer>,
    control: tokio::runtime::Handle,
    turn: Arc<Semaphore>,
}

/// Both versions' answers.
#[derive(Debug)]
pub(crate) struct Compared {
    /// What they are.
    pub(crate) kind: OutputKind,
    /// Unit of differences; empty where the manifest names none.
    pub(crate) unit: String,
    /// Of classes, in the first version's order.
    pub(crate) classes: Vec<String>,
    /// One a request.
    pub(crate) rows: Vec<Row>,
    /// Golden requests that were not asked.
    pub(crate) left_out: usize,
}

/// One request and both answers.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its places among the versions' golden requests.
    pub(crate) numbers: [Option<usize>; 2],
    /// The request.
    pub(crate) question: Question,
    /// The answers, or why there is none.
    pub(crate) answers: [Result<Answer, String>; 2],
    /// The second less the first, in the output's unit.
    pub(crate) difference: Option<f64>,
}

/// What differences come to.
#[derive(Debug, PartialEq)]
pub(crate) struct Summary {
    /// Rows with a difference.
    pub(crate) compared: usize,
    /// Median without signs.
    pub(crate) median: Option<f64>,
    /// Largest without signs.
    pub(crate) max: Option<f64>,
    /// Rows with another likeliest class.
    pub(crate) class_changes: usize,
}

/// Versions cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComparisonError {
    /// Their answers are of different kinds.
    #[error("the versions cannot be compared: {what} of the first is {left}, of the second {right}")]
    NotAlike {
        /// What differs, such as the unit.
        what: &'static str,
        /// Of the first version.
        left: String,
        /// Of the second.
        right: String,
    },
    /// Neither has golden requests.
    #[error("the versions cannot be compared: neither has golden requests")]
    NoRequests,
    /// A version cannot be loaded.
    #[error("version {version} of model `{model}` cannot be asked")]
    NotLoaded {
        /// Model name.
        model: String,
        /// Version number.
        version: u32,
        /// Why.
        #[source]
        source: NotLoaded,
    },
    /// The server ends.
    #[error("the server is shutting down")]
    ShuttingDown,
}

// === impl Comparer ===

impl Comparer {
    /// On the runtime that calls this.
    pub(crate) fn new(deployer: Arc<Deployer>) -> Comparer {
        Comparer { deployer, control: tokio::runtime::Handle::current(), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Asks both versions at most `requests_max` golden requests of each.
    ///
    /// # Errors
    ///
    /// [`ComparisonError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while it waits for its turn gives the turn up; later it is compared to its end for nobody.
    pub(crate) async fn compare(
        &self,
        left: VersionRecord,
        right: VersionRecord,
        requests_max: usize,
    ) -> Result<Compared, ComparisonError> {
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| ComparisonError::ShuttingDown)?;
        let deployer = Arc::clone(&self.deployer);
        let comparing = self.control.spawn(async move {
            let _turn = turn;
            compare(&deployer, [&left, &right], requests_max).await
        });
        comparing.await.unwrap_or(Err(ComparisonError::ShuttingDown))
    }
}

async fn compare(
    deployer: &Deployer,
    [left, right]: [&VersionRecord; 2],
    requests_max: usize,
) -> Result<Compared, ComparisonError> {
    let not_loaded = |record: &VersionRecord| {
        let (model, version) = (record.model.clone(), record.version);
        move |source| ComparisonError::NotLoaded { model, version, source }
    };
    let of_left = deployer.questions(left, requests_max).await.map_err(not_loaded(left))?;
    let of_right = deployer.questions(right, requests_max).await.map_err(not_loaded(right))?;
    check_alike(&of_left.manifest, &of_right.manifest)?;
    let mut left_out = of_left.left_out + of_right.left_out;
    let Output { kind, unit, classes, .. } = of_left.manifest.outputs[0].clone();
    let classes_right = of_right.manifest.outputs[0].classes.clone();
    let (numbers, questions) = together(of_left, of_right);
    if questions.is_empty() {
        return Err(ComparisonError::NoRequests);
    }
    let questions: Arc<[Question]> = questions.into();
    let answers_left = deployer.answers(left, Arc::clone(&questions), TIME_MAX).await.map_err(not_loaded(left))?;
    let answers_right = deployer.answers(right, Arc::clone(&questions), TIME_MAX).await.map_err(not_loaded(right))?;
    let asked = answers_left.len().min(answers_right.len());
    left_out += questions.len() - asked;
    let answers = answers_left.into_iter().zip(answers_right);
    let rows = numbers.into_iter().zip(questions.iter().cloned()).zip(answers);
    let rows = rows.map(|((numbers, question), (left, right))| {
        let right = right.map(|answer| in_order_of(answer, &classes, &classes_right));
        let difference = match (&left, &right) {
            (Ok(left), Ok(right)) => difference(&left.estimate, &right.estimate),
            _ => None,
        };
        Row { numbers, question, answers: [left, right], difference }
    });
    let rows = rows.collect();
    let unit = match kind {
        OutputKind::Probability | OutputKind::Classes => "probability".to_owned(),
        OutputKind::Quantiles | OutputKind::Prediction => unit.unwrap_or_default(),
    };
    Ok(Compared { kind, unit, classes, rows, left_out })
}

/// Refuses versions whose answers have no difference.
fn check_alike(left: &Manifest, right: &Manifest) -> Result<(), ComparisonError> {
    let [one, other] = [left, right].map(|manifest| &manifest.outputs[0]);
    let named = |unit: &Option<String>| unit.clone().unwrap_or_else(|| "none".to_owned());
    let sorted = |output: &Output| {
        let mut classes = output.classes.clone();
        classes.sort_unstable();
        classes.join(", ")
    };
    let takes = |manifest: &Manifest| if manifest.preprocessing.is_some() { "a picture" } else { "values" }.to_owned();
    let widths = |output: &Output| format!("{} values", output.width.unwrap_or(1));
    let parts = [
        ("the output", format!("{:?}", one.kind).to_lowercase(), format!("{:?}", other.kind).to_lowercase()),
        ("the input", takes(left), takes(right)),
        ("the unit", named(&one.unit), named(&other.unit)),
        ("the list of classes", sorted(one), sorted(other)),
        ("the prediction", widths(one), widths(other)),
    ];
    match parts.into_iter().find(|(_, left, right)| left != right) {
        None => Ok(()),
        Some((what, left, right)) => Err(ComparisonError::NotAlike { what, left, right }),
    }
}

/// Where a request stands among the first version's golden requests, and among the second's.
type Numbers = [Option<usize>; 2];

/// The requests of both, each once.
fn together(left: Questions, right: Questions) -> (Vec<Numbers>, Vec<Question>) {
    let mut questions = left.questions;
    let mut numbers: Vec<Numbers> = (0..questions.len()).map(|number| [Some(number), None]).collect();
    for (number, question) in right.questions.into_iter().enumerate() {
        match questions.iter().position(|known| *known == question) {
            Some(known) => numbers[known][1] = Some(number),
            None => {
                questions.push(question);
                numbers.push([None, Some(number)]);
            }
        }
    }
    (numbers, questions)
}

/// An answer with its classes in the order of another version.
fn in_order_of(answer: Answer, classes: &[String], own: &[String]) -> Answer {
    let Estimate::Classes(values) = &answer.estimate else { return answer };
    let of = |class: &String| own.iter().position(|own| own == class).and_then(|index| values.get(index)).copied();
    let estimate = Estimate::Classes(classes.iter().map(|class| of(class).unwrap_or(0.0)).collect());
    Answer { estimate, ..answer }
}

/// The second less the first; of several values that of the one which differs most.
fn difference(left: &Estimate, right: &Estimate) -> Option<f64> {
    let less = |left: f32, right: f32| f64::from(right) - f64::from(left);
    match (left, right) {
        (Estimate::Quantiles([_, left, _]), Estimate::Quantiles([_, right, _]))
        | (Estimate::Probability(left), Estimate::Probability(right)) => Some(less(*left, *right)),
        (Estimate::Classes(left), Estimate::Classes(right))
        | (Estimate::Prediction(left), Estimate::Prediction(right))
            if left.len() == right.len() =>
        {
            let differences = left.iter().zip(right).map(|(left, right)| less(*left, *right));
            differences.max_by(|one, other| one.abs().total_cmp(&other.abs()))
        }
        _ => None,
    }
}

/// The likeliest class, by its place.
pub(crate) fn likeliest(estimate: &Estimate) -> Option<usize> {
    let Estimate::Classes(values) = estimate else { return None };
    values.iter().enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(index, _)| index)
}

// === impl Compared ===

impl Compared {
    /// What the differences come to.
    pub(crate) fn summary(&self) -> Summary {
        let mut sizes: Vec<f64> = self.rows.iter().filter_map(|row| row.difference.map(f64::abs)).collect();
        sizes.sort_by(f64::total_cmp);
        let middle = sizes.len() / 2;
        let median = match sizes.len() {
            0 => None,
            count if count % 2 == 0 => Some((sizes[middle - 1] + sizes[middle]) / 2.0),
            _ => Some(sizes[middle]),
        };
        let changes = |row: &&Row| match &row.answers {
            [Ok(left), Ok(right)] => likeliest(&left.estimate) != likeliest(&right.estimate),
            _ => false,
        };
        let class_changes = self.rows.iter().filter(changes).count();
        Summary { compared: sizes.len(), median, max: sizes.last().copied(), class_changes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_in_the_outputs_unit() {
        let check = |left: Estimate, right: Estimate, expected: Option<f64>| {
            assert_eq!(difference(&left, &right), expected, "{left:?} {right:?}");
        };
        let quantiles = |middle| Estimate::Quantiles([0.0, middle, 500.0]);
        check(quantiles(100.0), quantiles(92.5), Some(-7.5));
        check(Estimate::Probability(0.25), Estimate::Probability(0.75), Some(0.5));
        check(Estimate::Classes(vec![0.5, 0.5]), Estimate::Classes(vec![0.25, 0.75]), Some(0.25));
        check(Estimate::Prediction(vec![1.0, 5.0]), Estimate::Prediction(vec![2.0, 1.0]), Some(-4.0));
        check(Estimate::Prediction(vec![1.0]), Estimate::Prediction(vec![2.0, 1.0]), None);
        check(Estimate::Unknown, Estimate::Unknown, None);
        check(quantiles(1.0), Estimate::Unknown, None);
        check(quantiles(1.0), Estimate::Probability(1.0), None);
    }

    fn row(left: Estimate, right: Estimate) -> Row {
        let difference = difference(&left, &right);
        let answer = |estimate| Ok(Answer { estimate, out_of_distribution: Vec::new() });
        let (numbers, question) = ([Some(0), None], Question::Row(Default::default()));
        Row { numbers, question, answers: [answer(left), answer(right)], difference }
    }

    #[test]
    fn a_summary_is_of_what_has_a_difference() {
        let check = |rows: Vec<Row>, expected: Summary| {
            let compared =
                Compared { kind: OutputKind::Classes, unit: String::new(), classes: Vec::new(), rows, left_out: 0 };
            assert_eq!(compared.summary(), expected);
        };
        check(Vec::new(), Summary { compared: 0, median: None, max: None, class_changes: 0 });
        let of = |left: f32, right: f32| row(Estimate::Probability(left), Estimate::Probability(right));
        let rows = vec![of(0.5, 0.25), of(0.5, 0.5), of(0.0, 1.0), row(Estimate::Unknown, Estimate::Probability(1.0))];
        check(rows, Summary { compared: 3, median: Some(0.25), max: Some(1.0), class_changes: 0 });
        check(
            vec![of(0.5, 0.25), of(0.5, 1.0)],
            Summary { compared: 2, median: Some(0.375), max: Some(0.5), class_changes: 0 },
        );
        let changed = row(Estimate::Classes(vec![0.75, 0.25]), Estimate::Classes(vec![0.25, 0.75]));
        check(vec![changed], Summary { compared: 1, median: Some(0.5), max: Some(0.5), class_changes: 1 });
    }

    #[test]
    fn classes_are_compared_by_name() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let answer = Answer { estimate: Estimate::Classes(vec![0.75, 0.25]), out_of_distribution: Vec::new() };
        let ordered = in_order_of(answer, &names(&["b", "a"]), &names(&["a", "b"]));
        assert_eq!(ordered.estimate, Estimate::Classes(vec![0.25, 0.75]));
    }
}

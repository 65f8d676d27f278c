//! Taking in what happened.

use std::{collections::HashMap, sync::Arc};

use sqlx::{Row as _, Sqlite, Transaction};

use super::{Outcomes, version_of};
use crate::{
    error::{OutcomesError, failed},
    prediction::{Output, Version},
    report::{Actual, Report, Reported},
    score::place,
};

/// Reports that are stored in one transaction: others write between two.
const AT_ONCE: usize = 500;

// === impl Outcomes ===

impl Outcomes {
    /// Stores what happened, and says of each report what became of it. Doing it again changes nothing.
    ///
    /// A report that contradicts an earlier one is refused, unless it says that it supersedes; then what was reported
    /// before is kept beside, with who said so and when.
    ///
    /// # Errors
    ///
    /// When the database cannot be written; some reports may have been stored, and the call can be repeated.
    pub async fn report(&self, reports: &[Report], source: &str, now_us: i64) -> Result<Vec<Reported>, OutcomesError> {
        let mut results = Vec::with_capacity(reports.len());
        let mut versions = HashMap::new();
        for some in reports.chunks(AT_ONCE) {
            let begun = self.pool().await?.begin_with("BEGIN IMMEDIATE").await;
            let mut transaction = begun.map_err(failed("store outcomes"))?;
            for report in some {
                results.push(store(&mut transaction, &mut versions, report, source, now_us).await?);
            }
            transaction.commit().await.map_err(failed("store outcomes"))?;
            let first = results.len() - some.len();
            if results[first..].iter().any(|result| matches!(result, Reported::Stored | Reported::Superseded { .. })) {
                self.reports.send_modify(|count| *count += 1);
            }
        }
        Ok(results)
    }
}

async fn store(
    transaction: &mut Transaction<'static, Sqlite>,
    versions: &mut HashMap<i64, Arc<Version>>,
    report: &Report,
    source: &str,
    now_us: i64,
) -> Result<Reported, OutcomesError> {
    let doing = failed("store outcomes");
    let id = &report.prediction.as_bytes()[..];
    let known = sqlx::query(
        "SELECT p.version, o.actual FROM prediction p LEFT JOIN outcome o ON o.prediction = p.id WHERE p.id = ?1",
    )
    .bind(id)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(&doing)?;
    let Some(known) = known else { return Ok(Reported::NotLogged) };
    let (number, before): (i64, Option<f64>) = (known.try_get(0).map_err(&doing)?, known.try_get(1).map_err(&doing)?);
    let version = match versions.get(&number) {
        Some(version) => Arc::clone(version),
        None => {
            let row = sqlx::query("SELECT model, version, digest, columns FROM version WHERE id = ?1")
                .bind(number)
                .fetch_one(&mut **transaction)
                .await
                .map_err(&doing)?;
            let version = version_of(&row)?;
            versions.insert(number, Arc::clone(&version));
            version
        }
    };
    let actual = match number_of(&version.output, &report.actual) {
        Ok(actual) => actual,
        Err(problem) => return Ok(Reported::Invalid { problem }),
    };
    let reported = match before {
        Some(before) if before.to_bits() == actual.to_bits() => return Ok(Reported::Known),
        Some(before) => {
            let before = actual_of(&version.output, before);
            if !report.supersedes {
                return Ok(Reported::Conflict { before });
            }
            sqlx::query(
                "INSERT INTO correction (prediction, actual, reported_us, source, corrected_us) \
                 SELECT prediction, actual, reported_us, source, ?2 FROM outcome WHERE prediction = ?1",
            )
            .bind(id)
            .bind(now_us)
            .execute(&mut **transaction)
            .await
            .map_err(&doing)?;
            Reported::Superseded { before }
        }
        None => Reported::Stored,
    };
    sqlx::query(
        "INSERT INTO outcome (prediction, actual, observed_us, reported_us, source) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (prediction) DO UPDATE SET actual = excluded.actual, observed_us = excluded.observed_us, \
         reported_us = excluded.reported_us, source = excluded.source",
    )
    .bind(id)
    .bind(actual)
    .bind(report.observed_us)
    .bind(now_us)
    .bind(source)
    .execute(&mut **transaction)
    .await
    .map_err(&doing)?;
    Ok(reported)
}

/// What is stored of an outcome, where it is one of what the model predicts.
fn number_of(output: &Output, actual: &Actual) -> Result<f64, String> {
    match (output, actual) {
        (Output::Quantiles | Output::Numbers(1), Actual::Number(number)) if number.is_finite() => Ok(number + 0.0),
        (Output::Quantiles | Output::Numbers(1), Actual::Number(number)) => {
            Err(format!("is {number}, expected a finite number"))
        }
        (Output::Quantiles | Output::Numbers(1), Actual::Class(class)) => {
            Err(format!("is the class `{}`, expected a number: the model predicts one", excerpt(class)))
        }
        (Output::Probability, Actual::Number(number)) if *number == 0.0 || *number == 1.0 => Ok(number + 0.0),
        (Output::Probability, Actual::Number(number)) => {
            Err(format!("is {number}, expected 1 where the event happened and 0 where it did not"))
        }
        (Output::Probability, Actual::Class(class)) => Err(format!(
            "is the class `{}`, expected the number 1 where the event happened and 0 where it did not",
            excerpt(class)
        )),
        (Output::Classes(classes), Actual::Class(class)) => match classes.iter().position(|known| known == class) {
            Some(place) => Ok(f64::from(u32::try_from(place).unwrap_or(u32::MAX))),
            None => Err(format!("is the class `{}`, expected {}", excerpt(class), listed(classes))),
        },
        (Output::Classes(classes), Actual::Number(number)) => {
            Err(format!("is the number {number}, expected a class: {}", listed(classes)))
        }
        (Output::Numbers(width), _) => {
            Err(format!("cannot be compared: the model answers with {width} numbers, expected one"))
        }
    }
}

/// The same, as it was reported.
fn actual_of(output: &Output, number: f64) -> Actual {
    match output {
        Output::Classes(classes) => match place(number, classes.len()).and_then(|place| classes.get(place)) {
            Some(class) => Actual::Class(class.clone()),
            None => Actual::Number(number),
        },
        _ => Actual::Number(number),
    }
}

/// A text as messages carry it.
fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The first of many.
fn listed(classes: &[String]) -> String {
    const SHOWN: usize = 12;
    let more = if classes.len() > SHOWN { format!(" and {} more", classes.len() - SHOWN) } else { String::new() };
    format!("one of {}{more}", classes[..classes.len().min(SHOWN)].join(", "))
}

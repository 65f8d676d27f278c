//! What the log's thread writes: answers, rows that wait for a file, and what was put into one.

use std::{collections::HashMap, sync::Arc};

use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteConnection};

use super::version_of;
use crate::{
    codec,
    error::{OutcomesError, failed},
    prediction::{Prediction, Version},
};

/// Rows that wait for a file, by version, as far as that needs no look at them.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    /// By a version's number in the database.
    waiting: HashMap<i64, Waiting>,
    versions: HashMap<(String, u32, String), i64>,
    /// Those of the last predictions, which are found without a look at their names.
    recent: Vec<(Arc<Version>, i64)>,
    cohorts: HashMap<String, i64>,
}

#[derive(Debug)]
struct Waiting {
    version: Arc<Version>,
    rows: usize,
    bytes: u64,
    /// When the oldest was predicted.
    since_us: i64,
}

/// Rows that are due for a file.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    pub(crate) number: i64,
    pub(crate) version: Arc<Version>,
    pub(crate) since_us: i64,
}

/// A prediction, and what its version and cohort are called in the database.
struct Numbered<'a> {
    prediction: &'a Prediction,
    version: i64,
    cohort: i64,
}

/// Rows that are inserted by one statement: each statement is a hop to SQLite's thread and back, which costs more than
/// all that it does.
const ROWS_PER_STATEMENT: usize = 64;
/// Versions that are found without a look at their names.
const RECENT_MAX: usize = 16;
/// Names of cohorts that are remembered; beyond that they are looked up.
const COHORTS_MAX: usize = 4096;

// === impl Staged ===

impl Staged {
    /// What an earlier process left.
    pub(crate) async fn load(connection: &mut SqliteConnection) -> Result<Staged, OutcomesError> {
        let doing = "read what waits for a file";
        let mut staged = Staged::default();
        let rows = sqlx::query(
            "SELECT v.id, v.model, v.version, v.digest, v.columns, \
             (SELECT count(*) FROM staged s WHERE s.version = v.id) AS rows, \
             (SELECT coalesce(sum(length(data)), 0) FROM staged s WHERE s.version = v.id) AS bytes, \
             (SELECT coalesce(min(time_us), 0) FROM staged s WHERE s.version = v.id) AS since_us FROM version v",
        )
        .fetch_all(connection)
        .await
        .map_err(failed(doing))?;
        for row in &rows {
            let read =
                || Ok((row.try_get("id")?, row.try_get("rows")?, row.try_get("bytes")?, row.try_get("since_us")?));
            let (number, rows, bytes, since_us): (i64, i64, i64, i64) = read().map_err(failed(doing))?;
            let version = version_of(row)?;
            staged.versions.insert(key(&version), number);
            if rows > 0 {
                let (rows, bytes) = (usize::try_from(rows).unwrap_or(usize::MAX), bytes.unsigned_abs());
                staged.waiting.insert(number, Waiting { version, rows, bytes, since_us });
            }
        }
        Ok(staged)
    }

    /// Bytes of all rows that wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.waiting.values().map(|waiting| waiting.bytes).sum()
    }

    /// Versions whose rows are due, by number, size and age.
    pub(crate) fn due(&self, is_due: impl Fn(usize, u64, i64) -> bool) -> Vec<Due> {
        let due = self.waiting.iter().filter(|(_, it)| it.rows > 0 && is_due(it.rows, it.bytes, it.since_us));
        due.map(|(number, it)| Due { number: *number, version: Arc::clone(&it.version), since_us: it.since_us })
            .collect()
    }

    /// Writes predictions in one transaction: their answers, and `rows` of them as well.
    ///
    /// # Errors
    ///
    /// Then nothing was written, and the connection is not to be used again.
    pub(crate) async fn append(
        &mut self,
        connection: &mut SqliteConnection,
        predictions: &[Prediction],
        with_rows: bool,
    ) -> Result<(), OutcomesError> {
        let doing = failed("log predictions");
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(&doing)?;
        let mut added: HashMap<i64, Waiting> = HashMap::new();
        let mut numbered = Vec::with_capacity(predictions.len());
        for prediction in predictions {
            let version = self.version(connection, &prediction.version).await?;
            let cohort = self.cohort(connection, &prediction.cohort).await?;
            numbered.push(Numbered { prediction, version, cohort });
        }
        for some in numbered.chunks(ROWS_PER_STATEMENT) {
            insert_answers(connection, some).await.map_err(&doing)?;
        }
        if with_rows {
            for some in numbered.chunks(ROWS_PER_STATEMENT) {
                insert_rows(connection, some, &mut added).await.map_err(&doing)?;
            }
        }
        sqlx::query("COMMIT").execute(&mut *connection).await.map_err(&doing)?;
        for (number, of_version) in added {
            self.waiting
                .entry(number)
                .and_modify(|waiting| {
                    waiting.rows += of_version.rows;
                    waiting.bytes += of_version.bytes;
                })
                .or_insert(of_version);
        }
        Ok(())
    }

    /// Forgets what was looked up in a transaction that came to nothing.
    pub(crate) fn forget_names(&mut self) {
        self.versions.clear();
        self.recent.clear();
        self.cohorts.clear();
    }

    async fn version(
        &mut self,
        connection: &mut SqliteConnection,
        version: &Arc<Version>,
    ) -> Result<i64, OutcomesError> {
        if let Some((_, number)) = self.recent.iter().find(|(recent, _)| Arc::ptr_eq(recent, version)) {
            return Ok(*number);
        }
        let number = self.named_version(connection, version).await?;
        self.recent.truncate(RECENT_MAX - 1);
        self.recent.insert(0, (Arc::clone(version), number));
        Ok(number)
    }

    async fn named_version(
        &mut self,
        connection: &mut SqliteConnection,
        version: &Version,
    ) -> Result<i64, OutcomesError> {
        let doing = failed("log predictions");
        let key = key(version);
        if let Some(number) = self.versions.get(&key) {
            return Ok(*number);
        }
        sqlx::query(
            "INSERT INTO version (model, version, digest, columns) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (model, version, digest) DO NOTHING",
        )
        .bind(&version.model)
        .bind(version.version)
        .bind(&version.digest)
        .bind(codec::columns(version))
        .execute(&mut *connection)
        .await
        .map_err(&doing)?;
        let number = sqlx::query_scalar("SELECT id FROM version WHERE model = ?1 AND version = ?2 AND digest = ?3")
            .bind(&version.model)
            .bind(version.version)
            .bind(&version.digest)
            .fetch_one(connection)
            .await
            .map_err(&doing)?;
        self.versions.insert(key, number);
        Ok(number)
    }

    async fn cohort(&mut self, connection: &mut SqliteConnection, name: &str) -> Result<i64, OutcomesError> {
        let doing = failed("log predictions");
        if let Some(number) = self.cohorts.get(name) {
            return Ok(*number);
        }
        sqlx::query("INSERT INTO cohort (name) VALUES (?1) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .execute(&mut *connection)
            .await
            .map_err(&doing)?;
        let number = sqlx::query_scalar("SELECT id FROM cohort WHERE name = ?1")
            .bind(name)
            .fetch_one(connection)
            .await
            .map_err(&doing)?;
        if self.cohorts.len() < COHORTS_MAX {
            self.cohorts.insert(name.to_owned(), number);
        }
        Ok(number)
    }

    /// Some rows that wait, in the order they came, after one; with the numbers of the first and the last of them.
    pub(crate) async fn read(
        connection: &mut SqliteConnection,
        due: &Due,
        after: i64,
        rows: usize,
    ) -> Result<(Vec<Prediction>, Option<(i64, i64)>), OutcomesError> {
        let doing = failed("read what waits for a file");
        let found = sqlx::query("SELECT seq, data FROM staged WHERE version = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")
            .bind(due.number)
            .bind(after)
            .bind(i64::try_from(rows).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await
            .map_err(&doing)?;
        let (mut predictions, mut span) = (Vec::with_capacity(found.len()), None);
        for row in &found {
            let (seq, data): (i64, &[u8]) = (row.try_get(0).map_err(&doing)?, row.try_get(1).map_err(&doing)?);
            span = Some((span.map_or(seq, |(first, _)| first), seq));
            match codec::take_row(data, &due.version) {
                Some(prediction) => predictions.push(prediction),
                None => tracing::warn!(seq, model = due.version.model, "a logged row is malformed, and is left out"),
            }
        }
        Ok((predictions, span))
    }

    /// Rows up to one are in a file that is safe.
    pub(crate) async fn unstage(
        &mut self,
        connection: &mut SqliteConnection,
        due: &Due,
        through: i64,
    ) -> Result<(), OutcomesError> {
        let doing = failed("forget what is in a file");
        sqlx::query("DELETE FROM staged WHERE version = ?1 AND seq <= ?2")
            .bind(due.number)
            .bind(through)
            .execute(connection)
            .await
            .map_err(doing)?;
        // The log's thread alone stages, and everything that waited was put into the file.
        self.waiting.remove(&due.number);
        Ok(())
    }
}

async fn insert_answers(connection: &mut SqliteConnection, numbered: &[Numbered<'_>]) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO prediction (id, version, cohort, status, answer) ");
    query.push_values(numbered, |mut row, Numbered { prediction, version, cohort }| {
        row.push_bind(&prediction.id.as_bytes()[..])
            .push_bind(version)
            .push_bind(cohort)
            .push_bind(prediction.status.code())
            .push_bind(codec::numbers(&prediction.answer));
    });
    query.push(" ON CONFLICT (id) DO NOTHING");
    query.build().execute(connection).await.map(drop)
}

/// Counts them in `added` as well.
async fn insert_rows(
    connection: &mut SqliteConnection,
    numbered: &[Numbered<'_>],
    added: &mut HashMap<i64, Waiting>,
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO staged (version, time_us, data) ");
    query.push_values(numbered, |mut row, Numbered { prediction, version, .. }| {
        let data = codec::row(prediction);
        let of_version = added.entry(*version).or_insert_with(|| Waiting {
            version: Arc::clone(&prediction.version),
            rows: 0,
            bytes: 0,
            since_us: prediction.time_us,
        });
        of_version.rows += 1;
        of_version.bytes += data.len() as u64;
        row.push_bind(version).push_bind(prediction.time_us).push_bind(data);
    });
    query.build().execute(connection).await.map(drop)
}

fn key(version: &Version) -> (String, u32, String) {
    (version.model.clone(), version.version, version.digest.clone())
}

//! Forgetting what is too old or too much.

use sqlx::sqlite::SqliteConnection;

use super::first_id;
use crate::error::{OutcomesError, failed};

/// Predictions that are forgotten in one transaction: others write between two.
const AT_ONCE: i64 = 2_000;

/// Forgets predictions from before a time, and the oldest beyond a number, with their outcomes. Says how many. `rows` is
/// how many there are, where that is known, and then what is left.
pub(crate) async fn expire(
    connection: &mut SqliteConnection,
    before_us: i64,
    rows_max: u64,
    rows: &mut Option<u64>,
) -> Result<u64, OutcomesError> {
    let doing = failed("forget old predictions");
    let mut total = 0;
    let before = first_id(before_us);
    loop {
        let kept = match *rows {
            Some(kept) => kept,
            None => {
                let counted = sqlx::query_scalar("SELECT count(*) FROM prediction").fetch_one(&mut *connection).await;
                counted.map(i64::unsigned_abs).map_err(&doing)?
            }
        };
        *rows = Some(kept);
        let too_many = i64::try_from(kept.saturating_sub(rows_max)).unwrap_or(i64::MAX);
        // The last to go, which is either old or one of too many.
        let last: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT max(id) FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM \
             (SELECT id FROM prediction ORDER BY id LIMIT ?1)) WHERE id < ?2 OR place <= ?3",
        )
        .bind(AT_ONCE)
        .bind(&before[..])
        .bind(too_many)
        .fetch_one(&mut *connection)
        .await
        .map_err(&doing)?;
        let Some(last) = last else { return Ok(total) };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(&doing)?;
        for statement in [
            "DELETE FROM correction WHERE prediction <= ?1",
            "DELETE FROM outcome WHERE prediction <= ?1",
            "DELETE FROM prediction WHERE id <= ?1",
        ] {
            let done = sqlx::query(statement).bind(&last).execute(&mut *connection).await.map_err(&doing)?;
            if statement.contains("FROM prediction") {
                total += done.rows_affected();
                *rows = Some(kept.saturating_sub(done.rows_affected()));
            }
        }
        sqlx::query("COMMIT").execute(&mut *connection).await.map_err(&doing)?;
    }
}

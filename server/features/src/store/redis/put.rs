//! Writing: one script compares, sets and tells others.

use std::{sync::LazyLock, time::Duration};

use ev_domain::VehicleId;
use redis::{Pipeline, Script, Value};

use super::{RedisOnlineStore, unexpected};
use crate::{
    FeatureRow, StoreError,
    store::{Condition, Put, Write},
};

/// Rounds of replacing what is damaged, which others may be doing as well.
const ROUNDS_MAX: usize = 4;

/// For each key: the row, milliseconds it is kept (0: for ever), and when it is written. The first 16 bytes of a row
/// order it, see `row.rs`; they are compared byte by byte, because Lua compares strings by the server's locale.
const SCRIPT: &str = r"
local function older(found, row)
  for i = 1, 16 do
    local a, b = string.byte(found, i), string.byte(row, i)
    if a ~= b then return a < b end
  end
  return false
end
local answers, wrote = {}, false
for i, key in ipairs(KEYS) do
  local row, kept, condition = ARGV[i * 3], tonumber(ARGV[i * 3 + 1]), ARGV[i * 3 + 2]
  local found = redis.pcall('GET', key)
  if type(found) ~= 'string' then found = false end
  local kind, expected, write = string.sub(condition, 1, 1), string.sub(condition, 2), nil
  if kind == 'n' then
    write = not found or (#found >= 16 and older(found, row))
  elseif kind == '-' then
    write = not found
  elseif kind == '=' then
    write = found and string.sub(found, 1, 16) == expected
  else
    write = found == expected
  end
  if write then
    if kept > 0 then redis.call('SET', key, row, 'PX', kept) else redis.call('SET', key, row) end
    answers[i], wrote = 1, true
  else
    answers[i] = found or 0
  end
end
if wrote then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
return answers
";

static HASHED: LazyLock<Script> = LazyLock::new(|| Script::new(SCRIPT));

/// Writes rows, and replaces what is no row whatever it is.
pub(super) async fn put(
    store: &RedisOnlineStore,
    vehicle: &VehicleId,
    writes: &[Write],
) -> Result<Vec<Put>, StoreError> {
    let mut outcomes = vec![Put::Refused(None); writes.len()];
    // Places of those that are still to be written, each with its condition.
    let mut open: Vec<(usize, Vec<u8>)> =
        writes.iter().enumerate().map(|(place, write)| (place, condition(write.condition))).collect();
    for _ in 0..ROUNDS_MAX {
        if open.is_empty() {
            break;
        }
        let answers = ask(store, vehicle, writes, &open).await?;
        if answers.len() != open.len() {
            return Err(unexpected(None));
        }
        let mut again = Vec::new();
        for ((place, _), answer) in open.into_iter().zip(answers) {
            outcomes[place] = match answer {
                Value::Int(1) => Put::Written,
                Value::Int(0) => Put::Refused(None),
                Value::BulkString(bytes) => match FeatureRow::decode(&bytes) {
                    Ok(row) => Put::Refused(Some(row.version())),
                    // Nobody can read it: it is as good as nothing.
                    Err(_) => {
                        if !matches!(writes[place].condition, Condition::Is(Some(_))) {
                            again.push((place, [b"!", &bytes[..]].concat()));
                        }
                        Put::Refused(None)
                    }
                },
                answer => return Err(unexpected(Some(&answer))),
            };
        }
        open = again;
    }
    Ok(outcomes)
}

async fn ask(
    store: &RedisOnlineStore,
    vehicle: &VehicleId,
    writes: &[Write],
    open: &[(usize, Vec<u8>)],
) -> Result<Vec<Value>, StoreError> {
    let pipeline = |command: &str, script: &str| {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd(command).arg(script).arg(open.len());
        for (place, _) in open {
            pipeline.arg(store.key(vehicle, writes[*place].view));
        }
        pipeline.arg(store.channel()).arg(format!("{} {vehicle}", store.settings.replica));
        for (place, condition) in open {
            let Write { view, row, .. } = &writes[*place];
            let kept = store.retention(*view).as_ref().map_or(0, Duration::as_millis);
            pipeline.arg(row.as_bytes()).arg(u64::try_from(kept).unwrap_or(u64::MAX >> 12)).arg(&condition[..]);
        }
        pipeline
    };
    let first = store.links.ask(&pipeline("EVALSHA", HASHED.get_hash())).await?;
    let answer = match first.into_iter().next() {
        Some(Value::ServerError(error)) if error.code() == "NOSCRIPT" => {
            store.links.ask(&pipeline("EVAL", SCRIPT)).await?.into_iter().next()
        }
        answer => answer,
    };
    match answer {
        Some(Value::Array(answers)) => Ok(answers),
        answer => Err(unexpected(answer.as_ref())),
    }
}

fn condition(condition: Condition) -> Vec<u8> {
    match condition {
        Condition::Newer => b"n".to_vec(),
        Condition::Is(None) => b"-".to_vec(),
        Condition::Is(Some(version)) => [&b"="[..], &version.order_bytes()].concat(),
    }
}

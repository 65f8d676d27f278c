//! `evctl models replicas`: what each server really serves.

use std::time::Duration;

use ev_client::{
    Client,
    proto::ev::registry::v1::{ListReplicasResponse, Replica, ReplicaVersion},
};

use super::state_of;
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    predict::short_digest,
    style::{BOLD, DIM, PLAIN, WARN},
    table::{Cell, Table},
};

pub(crate) async fn run(client: &Client, output: &Output, name: &str) -> Result<Exit, Failure> {
    let replicas = client.registry().list_replicas(name).await?;
    let response = ListReplicasResponse { replicas };
    output.answer(&Json::new("ev.registry.v1.ListReplicasResponse", &response), || render(&response.replicas))?;
    Ok(Exit::Ok)
}

fn render(replicas: &[Replica]) -> String {
    let mut table = Table::new(["server", "told", "revision", "model", "version", "state", "digest", "aliases"]);
    for replica in replicas {
        let told = |replica: &Replica| {
            let age = replica.age.as_ref().and_then(|age| Duration::try_from(*age).ok()).unwrap_or_default();
            let stale = if replica.stale { "stale, " } else { "" };
            let style = if replica.stale { WARN } else { PLAIN };
            Cell::styled(format!("{stale}{} s ago", age.as_secs()), style)
        };
        let mut first = true;
        let nothing = ReplicaVersion::default();
        let versions = if replica.versions.is_empty() { std::slice::from_ref(&nothing) } else { &replica.versions };
        for version in versions {
            let (state, style) = state_of(version.state());
            let [address, age, revision]: [Cell; 3] = if first {
                [Cell::styled(&replica.address, BOLD), told(replica), replica.revision.to_string().into()]
            } else {
                ["".into(), "".into(), "".into()]
            };
            first = false;
            if version.model.is_empty() {
                let nothing = Cell::styled("nothing", DIM);
                table.row([address, age, revision, nothing, "".into(), "".into(), "".into(), "".into()]);
                continue;
            }
            let told =
                if version.state_reason.is_empty() { version.aliases.join(", ") } else { version.state_reason.clone() };
            table.row([
                address,
                age,
                revision,
                version.model.as_str().into(),
                version.version.to_string().into(),
                Cell::styled(state, style),
                Cell::styled(short_digest(&version.digest), DIM),
                told.into(),
            ]);
        }
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use ev_client::proto::ev::registry::v1::VersionState;

    use super::*;

    #[test]
    fn each_server_is_told_once_with_all_its_versions() {
        let version = |number, state: VersionState, reason: &str, alias: &str| ReplicaVersion {
            model: "ev-range".to_owned(),
            version: number,
            digest: format!("sha256:{}", "ab".repeat(32)),
            state: state.into(),
            state_reason: reason.to_owned(),
            aliases: vec![alias.to_owned()],
        };
        let age = |seconds| Some(Duration::from_secs(seconds).try_into().expect("small"));
        let replicas = [
            Replica {
                address: "evserve-0:50051".to_owned(),
                age: age(2),
                revision: 41,
                versions: vec![
                    version(1, VersionState::Failed, "DATA_LOSS: gone", "canary"),
                    version(2, VersionState::Ready, "", "production"),
                ],
                ..Replica::default()
            },
            Replica { address: "evserve-1:50051".to_owned(), age: age(95), stale: true, ..Replica::default() },
        ];
        let text = strip_str(&render(&replicas)).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        let check = |line: usize, words: &[&str]| {
            assert!(words.iter().all(|word| lines[line].contains(word)), "{words:?} in {text}");
        };
        check(1, &["evserve-0:50051", "2 s ago", "41", "ev-range", "FAILED", "DATA_LOSS: gone"]);
        check(2, &["2", "READY", "production"]);
        assert!(!lines[2].contains("evserve-0"), "{text}");
        check(3, &["evserve-1:50051", "stale, 95 s ago", "nothing"]);
    }
}

//! `evctl models list`.

use ev_client::{Client, proto::ev::registry::v1::Model};
use serde::Serialize;

use super::state_of;
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    predict::short_digest,
    style::{BOLD, DIM, WARN},
    table::{Cell, Table},
};

#[derive(Debug, Serialize)]
struct Models {
    models: Vec<Json>,
}

pub(crate) async fn run(client: &Client, output: &Output) -> Result<Exit, Failure> {
    let models = client.registry().list_models().await?;
    let json = Models { models: models.iter().map(|model| Json::new("ev.registry.v1.Model", model)).collect() };
    output.answer(&json, || render(&models))?;
    Ok(Exit::Ok)
}

fn render(models: &[Model]) -> String {
    if models.is_empty() {
        return "No models yet. Import one with: evctl models import DIR --alias production".to_owned();
    }
    let mut table = Table::new(["name", "serving", "state", "latest", "task", "backend", "digest", "description"]);
    for Model { name, version_count: _, production, latest } in models {
        let shown = production.as_ref().or(latest.as_ref());
        let (serving, state) = match production {
            Some(version) => {
                let (state, style) = state_of(version.state());
                (version.version.to_string().into(), Cell::styled(state, style))
            }
            None => (Cell::styled("none", WARN), Cell::styled("NOT SERVING", WARN)),
        };
        table.row([
            Cell::styled(name, BOLD),
            serving,
            state,
            latest.as_ref().map(|version| version.version.to_string()).unwrap_or_default().into(),
            shown.map_or("", |version| &version.task).into(),
            shown.map_or("", |version| &version.backend).into(),
            Cell::styled(shown.map(|version| short_digest(&version.digest)).unwrap_or_default(), DIM),
            shown.map_or("", |version| &version.description).into(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use ev_client::proto::ev::registry::v1::{Version, VersionState};

    use super::*;

    #[test]
    fn a_model_without_production_is_told_apart() {
        let version = Version {
            version: 2,
            digest: format!("sha256:{}", "ab".repeat(32)),
            state: VersionState::Ready.into(),
            task: "range".to_owned(),
            backend: "forest".to_owned(),
            description: "Range of a car".to_owned(),
            ..Version::default()
        };
        let models = [
            Model {
                name: "ev-range".to_owned(),
                version_count: 2,
                production: Some(version.clone()),
                latest: Some(version.clone()),
            },
            Model { name: "mine".to_owned(), version_count: 1, production: None, latest: Some(version) },
        ];
        assert_eq!(
            strip_str(&render(&models)).to_string(),
            "\
NAME       SERVING   STATE         LATEST   TASK    BACKEND   DIGEST                DESCRIPTION
ev-range   2         READY         2        range   forest    sha256:abababababab   Range of a car
mine       none      NOT SERVING   2        range   forest    sha256:abababababab   Range of a car
"
        );
        assert!(render(&[]).contains("evctl models import"));
    }
}

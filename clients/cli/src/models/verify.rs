//! `evctl models verify`.

use ev_client::{
    Client, VersionRef,
    proto::ev::registry::v1::{Check, VerifyVersionResponse},
};

use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{BAD, GOOD},
    table::{Cell, Table},
};

pub(crate) async fn run(client: &Client, output: &Output, version: VersionRef) -> Result<Exit, Failure> {
    let response = client.registry().verify_version(version).await?;
    output.answer(&Json::new("ev.registry.v1.VerifyVersionResponse", &response), || render(&response))?;
    Ok(if response.ok { Exit::Ok } else { Exit::Failed })
}

fn render(response: &VerifyVersionResponse) -> String {
    let VerifyVersionResponse { version, ok, checks } = response;
    let mut table = Table::new(["check", "result", "found"]);
    for Check { name, ok, detail } in checks {
        table.row([name.into(), verdict(*ok), detail.into()]);
    }
    let name = version.as_ref().map(|version| format!("{} version {}", version.model, version.version));
    let name = name.unwrap_or_default();
    let last = if *ok {
        format!("{GOOD}{name} is what was registered{GOOD:#}")
    } else {
        format!("{BAD}{name} is not what was registered{BAD:#}; import it again with: evctl models import DIR")
    };
    format!("{}\n{last}", table.render())
}

fn verdict(ok: bool) -> Cell {
    if ok { Cell::styled("ok", GOOD) } else { Cell::styled("FAILED", BAD) }
}

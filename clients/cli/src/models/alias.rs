//! `evctl models alias`.

use ev_client::{Client, proto::ev::registry::v1::SetAliasResponse};

use crate::{exit::Exit, failure::Failure, json::Json, output::Output, style::BOLD};

pub(crate) async fn run(
    client: &Client,
    output: &Output,
    name: &str,
    alias: &str,
    version: u32,
    expect: Option<u32>,
) -> Result<Exit, Failure> {
    let response = client.registry().set_alias(name, alias, version, expect).await?;
    let json = Json::new("ev.registry.v1.SetAliasResponse", &response);
    output.answer(&json, || render(name, alias, version, &response))?;
    Ok(Exit::Ok)
}

fn render(name: &str, alias: &str, version: u32, response: &SetAliasResponse) -> String {
    let before = match response.previous_version {
        0 => "it is new".to_owned(),
        same if same == version => "as before".to_owned(),
        previous => format!("before: {previous}; back with: evctl models alias {name} {alias} {previous}"),
    };
    format!("{BOLD}{name}@{alias}{BOLD:#} points at version {BOLD}{version}{BOLD:#} ({before})")
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn the_way_back_is_shown() {
        let check = |previous_version, expected: &str| {
            let response = SetAliasResponse { version: None, previous_version };
            assert_eq!(strip_str(&render("m", "production", 4, &response)).to_string(), expected);
        };
        check(0, "m@production points at version 4 (it is new)");
        check(4, "m@production points at version 4 (as before)");
        check(3, "m@production points at version 4 (before: 3; back with: evctl models alias m production 3)");
    }
}

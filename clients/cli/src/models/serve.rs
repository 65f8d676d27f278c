//! `evctl models serve`: which versions are loaded whatever the aliases point at.

use clap::Args;
use ev_client::{
    Client,
    proto::ev::registry::v1::{VersionNumbers, VersionPolicy, VersionState, version_policy::Policy},
};

use super::state_of;
use crate::{exit::Exit, failure::Failure, json::Json, output::Output, style::BOLD};

/// Show or say which versions of a model are loaded beside those that its aliases and rollouts need.
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with 1 when a version that is asked for does not serve.

Examples:
  evctl models serve ev-range                what holds
  evctl models serve ev-range latest:2       the two newest
  evctl models serve ev-range versions:1,3   these
  evctl models serve ev-range all            all, as far as the server's configuration allows
  evctl models serve ev-range aliases        no more than aliases and rollouts need
  evctl models serve ev-range configured     what the servers' configuration says")]
pub(crate) struct ServeCommand {
    /// Model name.
    name: String,
    /// latest:N, versions:N,N, all, aliases, or configured.
    #[arg(value_parser = wanted)]
    policy: Option<Wanted>,
}

/// What is to hold from now on; none: what is configured.
#[derive(Debug, Clone, PartialEq)]
struct Wanted(Option<Policy>);

// === impl ServeCommand ===

impl ServeCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let ServeCommand { name, policy } = self;
        let registry = client.registry();
        let Some(Wanted(policy)) = policy else {
            let response = registry.version_policy(&name).await?;
            output.answer(&Json::new("ev.registry.v1.GetVersionPolicyResponse", &response), || {
                let from = if response.is_configured { "as configured" } else { "as somebody has set it" };
                format!("{BOLD}{name}{BOLD:#} serves {}, {from}", text(response.policy.as_ref()))
            })?;
            return Ok(Exit::Ok);
        };
        let policy = policy.map(|policy| VersionPolicy { policy: Some(policy) });
        let response = registry.set_version_policy(&name, policy).await?;
        output.answer(&Json::new("ev.registry.v1.SetVersionPolicyResponse", &response), || {
            let mut lines = vec![format!("{BOLD}{name}{BOLD:#} serves {}", text(response.policy.as_ref()))];
            for version in &response.versions {
                let (state, style) = state_of(version.state());
                let aliases = version.aliases.join(", ");
                let line = format!("  {} {style}{state}{style:#} {aliases} {}", version.version, version.state_reason);
                lines.push(line.trim_end().to_owned());
            }
            lines.join("\n")
        })?;
        let serves = response.versions.iter().all(|version| version.state() == VersionState::Ready);
        Ok(if serves { Exit::Ok } else { Exit::Failed })
    }
}

fn wanted(text: &str) -> Result<Wanted, String> {
    let expected = || "expected latest:N, versions:N,N, all, aliases or configured".to_owned();
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(expected);
    Ok(Wanted(Some(match text.split_once(':') {
        None if text == "configured" => return Ok(Wanted(None)),
        None if text == "all" => Policy::All(true),
        None if text == "aliases" => Policy::AliasesOnly(true),
        Some(("latest", count)) => Policy::Latest(number(count)?),
        Some(("versions", numbers)) => {
            let numbers = numbers.split(',').map(number).collect::<Result<_, _>>()?;
            Policy::Versions(VersionNumbers { numbers })
        }
        _ => return Err(expected()),
    })))
}

/// What holds, in words.
fn text(policy: Option<&VersionPolicy>) -> String {
    match policy.and_then(|policy| policy.policy.as_ref()) {
        None | Some(Policy::AliasesOnly(_)) => "what its aliases and rollouts need".to_owned(),
        Some(Policy::All(_)) => "all versions".to_owned(),
        Some(Policy::Latest(1)) => "the newest version, and what its aliases and rollouts need".to_owned(),
        Some(Policy::Latest(count)) => format!("the {count} newest versions, and what its aliases and rollouts need"),
        Some(Policy::Versions(VersionNumbers { numbers })) => {
            let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
            format!("versions {}, and what its aliases and rollouts need", numbers.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_and_told_in_words() {
        let check = |text: &str, expected: Option<Option<Policy>>| {
            assert_eq!(wanted(text).ok().map(|wanted| wanted.0), expected, "{text}");
        };
        check("configured", Some(None));
        check("all", Some(Some(Policy::All(true))));
        check("latest:2", Some(Some(Policy::Latest(2))));
        check("versions:1, 3", Some(Some(Policy::Versions(VersionNumbers { numbers: vec![1, 3] }))));
        for wrong in ["", "newest", "latest", "latest:0", "versions:1,x", "all:2"] {
            check(wrong, None);
        }
        let told = |policy| text(Some(&VersionPolicy { policy: Some(policy) }));
        assert_eq!(told(Policy::Latest(2)), "the 2 newest versions, and what its aliases and rollouts need");
    }
}

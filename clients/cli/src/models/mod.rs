//! `evctl models`: the versioned model registry.

mod alias;
mod answers;
mod audit;
mod detail;
mod diff;
mod gates;
pub(crate) mod hugging_face;
mod import;
mod init;
mod keep;
mod keygen;
mod list;
mod replicas;
mod serve;
mod show;
mod sign;
mod verify;
mod watch;

use std::path::PathBuf;

use anstyle::Style;
use clap::Subcommand;
use ev_client::{VersionRef, proto::ev::registry::v1::VersionState};

use crate::{
    cli::GlobalOptions,
    exit::Exit,
    failure::Failure,
    output::Output,
    style::{BAD, DIM, GOOD, PLAIN, WARN},
};

/// List, show, import and verify models.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A model has numbered versions that never change, and aliases that point at them.
The version that the alias production points at answers requests.

Examples:
  evctl models list
  evctl models show ev-range@production
  evctl models init demand.ubj -d demand/             a manifest for a model of your own
  evctl models import demand/ --alias production      and let it serve
  evctl models gates my-model:2                       may version 2 be in production?
  evctl models alias my-model production 1            back to version 1
  evctl models serve my-model latest:2                the two newest answer whoever names them
  evctl models replicas                               what does each server really serve?
  evctl import hf atto/ --name photos                 an image classifier from Hugging Face")]
pub(crate) enum ModelsCommand {
    /// List the models with the versions that serve.
    List,
    /// Show a model's versions, or one version with its manifest.
    #[command(after_help = "\
Examples:
  evctl models show ev-range               every version, and what serves
  evctl models show ev-range:3             version 3
  evctl models show ev-range@production    the version that serves
  evctl -o json models show ev-range:3 | jq .manifest.metrics")]
    Show {
        /// NAME, NAME:VERSION or NAME@ALIAS.
        #[arg(value_name = "NAME[:VERSION|@ALIAS]")]
        version: VersionRef,
    },
    /// Register a model version from a directory with a manifest.toml.
    #[command(after_help = "\
The directory holds manifest.toml and the files it names; `evctl models init` writes one for a model of your own,
and a directory from Hugging Face needs none: evctl import hf DIR --name NAME.
The same content is registered once: importing it again gives the version it already has.

Examples:
  evctl models import my-model/
  evctl models import my-model/ --alias production    and let it serve at once")]
    Import {
        /// Directory with a manifest.toml.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Point this alias at the version; production lets it serve.
        #[arg(long, alias = "set-alias")]
        alias: Option<String>,
    },
    /// Have the server read every file of a version again, compare digests and run its golden requests.
    #[command(after_help = "\
Exits with 1 when a check fails.

Example:
  evctl models verify ev-range")]
    Verify {
        /// NAME, NAME:VERSION or NAME@ALIAS.
        #[arg(value_name = "NAME[:VERSION|@ALIAS]")]
        version: VersionRef,
    },
    /// Point an alias at a version; production chooses the version that serves.
    #[command(after_help = "\
Examples:
  evctl models alias ev-range production 4
  evctl models alias ev-range production 4 --expect 3    only if nobody moved it since
  evctl models alias ev-range canary 5 --expect 0        only if there is no canary yet
  evctl models alias thermal-risk production 2 --waive synthetic='no open data of packs on their way to runaway'

production moves to versions that pass the promotion gates, which `evctl models gates` shows; a gate that fails can be
waived with a reason, which goes into the audit log.")]
    Alias {
        /// Model name.
        name: String,
        /// Alias, such as production or canary.
        alias: String,
        /// Version it shall point at.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        version: u32,
        /// Move it only if it points at this version now; 0: only if it does not exist yet.
        #[arg(long, value_name = "VERSION")]
        expect: Option<u32>,
        /// Waive a promotion gate for this version first, and say why; may be given several times.
        #[arg(long, value_name = "GATE=REASON", value_parser = alias::waiver)]
        waive: Vec<alias::WaiverArgument>,
    },
    /// Show how a version stands with the promotion gates, and how it is signed.
    #[command(after_help = "\
Exits with 1 when a gate fails that nobody has waived: production does not move to such a version.

Examples:
  evctl models gates ev-range:2
  evctl models gates ev-range:2 --again    judge it now, as moving production does
  evctl -o json models gates ev-range:2 | jq '.gates[] | select(.state == \"GATE_STATE_FAILED\")'")]
    Gates {
        /// NAME, NAME:VERSION or NAME@ALIAS.
        #[arg(value_name = "NAME[:VERSION|@ALIAS]")]
        version: VersionRef,
        /// Judge it now, instead of showing how it was judged last.
        #[arg(long)]
        again: bool,
    },
    /// Make a key that signs model versions.
    #[command(after_help = "\
The files are read and written by OpenSSL too: openssl pkey -in release.pem -pubout

Example:
  evctl models keygen --out release.pem")]
    Keygen {
        /// File of the private key; the public one goes beside it with .pub behind its name.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Sign a version with a private key.
    #[command(after_help = "\
The key stays here: the server gets the signature alone.

Example:
  evctl models sign ev-range:2 --key release.pem")]
    Sign {
        /// NAME, NAME:VERSION or NAME@ALIAS.
        #[arg(value_name = "NAME[:VERSION|@ALIAS]")]
        version: VersionRef,
        /// File of the private key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    Init(init::InitCommand),
    Audit(audit::AuditCommand),
    Watch(watch::WatchCommand),
    /// Show what two versions differ in, side by side: signature, metrics, files, and what they answer.
    #[command(after_help = "\
The server asks both versions the golden requests of both. A version that does not serve is loaded for that alone.

Examples:
  evctl models diff ev-range:3 ev-range@production
  evctl -o json models diff ev-range:3 ev-range@production | jq .answers.difference_max")]
    Diff {
        /// NAME, NAME:VERSION or NAME@ALIAS.
        left: VersionRef,
        /// NAME, NAME:VERSION or NAME@ALIAS.
        right: VersionRef,
    },
    Serve(serve::ServeCommand),
    /// Show the servers that share the registry, and what each of them really serves.
    #[command(after_help = "\
A server tells of itself when what it serves changes, and every few seconds; one that has missed three reports is stale.

Examples:
  evctl models replicas
  evctl models replicas ev-range           has the promotion reached every server?
  evctl -o json models replicas | jq '.replicas[] | {address, stale, revision}'")]
    Replicas {
        /// Only the versions of this model.
        #[arg(default_value = "")]
        name: String,
    },
    /// Delete a version that neither an alias nor a pin refers to.
    Delete(keep::Numbered),
    /// Keep a version from being deleted.
    Pin {
        #[command(flatten)]
        which: keep::Numbered,
        /// Why, for the audit log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Take a version's pin off.
    Unpin(keep::Numbered),
}

// === impl ModelsCommand ===

impl ModelsCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        match self {
            ModelsCommand::List => list::run(&global.connect().await?, output).await,
            ModelsCommand::Show { version } => show::run(&global.connect().await?, output, version).await,
            ModelsCommand::Import { directory, alias } => {
                import::run(&global.connect().await?, output, &directory, alias.as_deref()).await
            }
            ModelsCommand::Init(command) => command.run(output),
            ModelsCommand::Audit(command) => command.run(&global.connect().await?, output).await,
            ModelsCommand::Watch(command) => command.run(&global.connect().await?, output).await,
            ModelsCommand::Diff { left, right } => diff::run(&global.connect().await?, output, left, right).await,
            ModelsCommand::Serve(command) => command.run(&global.connect().await?, output).await,
            ModelsCommand::Replicas { name } => replicas::run(&global.connect().await?, output, &name).await,
            ModelsCommand::Delete(which) => keep::delete(&global.connect().await?, output, &which).await,
            ModelsCommand::Pin { which, reason } => keep::pin(&global.connect().await?, output, &which, &reason).await,
            ModelsCommand::Unpin(which) => keep::unpin(&global.connect().await?, output, &which).await,
            ModelsCommand::Verify { version } => verify::run(&global.connect().await?, output, version).await,
            ModelsCommand::Alias { name, alias, version, expect, waive } => {
                let client = global.connect().await?;
                alias::waive(&client, &name, version, &waive).await?;
                alias::run(&client, output, &name, &alias, version, expect).await
            }
            ModelsCommand::Gates { version, again } => {
                gates::run(&global.connect().await?, output, version, again).await
            }
            ModelsCommand::Keygen { out } => keygen::run(output, &out),
            ModelsCommand::Sign { version, key } => sign::run(&global.connect().await?, output, version, &key).await,
        }
    }
}

/// A version's state in a word, and how it looks.
fn state_of(state: VersionState) -> (&'static str, Style) {
    match state {
        VersionState::Unspecified => ("UNKNOWN", PLAIN),
        VersionState::Registered => ("REGISTERED", DIM),
        VersionState::Loading => ("LOADING", WARN),
        VersionState::Ready => ("READY", GOOD),
        VersionState::Failed => ("FAILED", BAD),
    }
}

/// Bytes with a unit a person reads.
pub(crate) fn size_text(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

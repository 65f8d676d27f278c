//! `evctl import`: models as other tools leave them.

use clap::Subcommand;

use crate::{
    cli::GlobalOptions, exit::Exit, failure::Failure, models::hugging_face::HuggingFaceCommand, output::Output,
};

/// Register a model as another tool left it.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Files of XGBoost and ONNX take two steps: `evctl models init FILE`, then `evctl models import DIR`.
A directory with a manifest.toml is registered with `evctl models import DIR`.")]
pub(crate) enum ImportCommand {
    /// Register a ConvNeXt V2 image classifier from Hugging Face.
    #[command(visible_alias = "hugging-face")]
    Hf(HuggingFaceCommand),
}

// === impl ImportCommand ===

impl ImportCommand {
    pub(crate) async fn run(self, global: &GlobalOptions, output: &Output) -> Result<Exit, Failure> {
        match self {
            ImportCommand::Hf(command) => command.run(global, output).await,
        }
    }
}

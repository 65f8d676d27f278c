//! What does it cost to have pictures classified by a server, beside the same engine in process?
//!
//! Four questions: how many pictures a second against ONNX Runtime in process, whether batching pays, what requests for
//! tabular models notice of busy workers, and what is left of the throughput under overload.

mod atto;
mod overload;
mod peer;
mod question;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ev_benches::grpc::machine;
use ev_loadtests::Awake;
use question::{Kind, Setting};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Cli {
    /// Rounds; an odd number has a median.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Folder of the model: manifest and files, with an ONNX graph as its head. Without it, a ConvNeXt V2 Atto with
    /// random weights is made.
    #[arg(long)]
    model: Option<PathBuf>,
    /// A JPEG to send; without it, one of 1280 by 960 pixels is made.
    #[arg(long)]
    photo: Option<PathBuf>,
    /// Let processors sleep that have nothing to do. What it takes to wake one, or to get that of a virtual machine back, is
    /// part of every latency then.
    #[arg(long)]
    let_sleep: bool,
    #[command(subcommand)]
    question: Option<Question>,
}

#[derive(Subcommand)]
enum Question {
    /// Pictures a second, against ONNX Runtime in process, on one and two processors.
    Budgets(question::Rows),
    /// The same with and without batches.
    Batching,
    /// Latency of tabular requests, idle and beside saturated workers.
    Neighbours,
    /// Answers a second at 2, 5 and 10 times the capacity.
    Overload,
    /// The peer itself, in a process of its own.
    #[command(hide = true)]
    Peer(peer::Arguments),
}

fn main() -> anyhow::Result<()> {
    let Cli { rounds, model, photo, let_sleep, question } = Cli::parse();
    if let Some(Question::Peer(arguments)) = &question {
        return peer::run(arguments);
    }
    let folder = tempfile::tempdir()?;
    let photo = match photo {
        Some(photo) => photo,
        None => peer::make_photo(&folder.path().join("photo.jpg"))?,
    };
    let model = match model {
        Some(model) => model,
        None => atto::write(&folder.path().join("atto"))?,
    };
    let setting = Setting { rounds, model, photo, folder };
    let awake = if let_sleep { None } else { Awake::hold_or_tell() };
    let sleep = if awake.is_some() { "processors kept awake" } else { "processors sleep when idle" };
    println!("{}, {sleep}; {}; medians of {rounds} rounds", machine(), setting.described()?);
    let all = question.is_none();
    match &question {
        Some(Question::Budgets(rows)) => setting.budgets(rows)?,
        None => setting.budgets(&question::Rows::default())?,
        _ => {}
    }
    if all || matches!(question, Some(Question::Batching)) {
        setting.batching(Kind::Tensor)?;
        setting.batching(Kind::Photo)?;
    }
    if all || matches!(question, Some(Question::Neighbours)) {
        setting.neighbours()?;
    }
    if all || matches!(question, Some(Question::Overload)) {
        setting.overload()?;
    }
    Ok(())
}

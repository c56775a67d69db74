//! `cargo run --release -p crash`: every fault at every step of every flow.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use crash::flow::Flow;
use crash::run::every;
use crash::world::Error;
use strum::VariantArray;

/// Breaks every outgoing call of every function, and checks how the task ends.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only flows whose names contain this.
    #[arg(long, default_value = "")]
    flow: String,
    /// Only faults whose names contain this.
    #[arg(long, default_value = "")]
    fault: String,
    /// Runs at a time.
    #[arg(long, default_value_t = 8)]
    concurrency: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    match all(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything. Returns whether everything is as it has to be.
async fn all(arguments: &Arguments) -> Result<bool, Error> {
    let flows = chosen::<Flow>(&arguments.flow);
    let outcomes = every(&flows, &chosen(&arguments.fault), arguments.concurrency).await?;
    writeln!(io::stdout(), "{outcomes}")?;
    Ok(outcomes.are_right())
}

/// Those whose names contain this.
fn chosen<T: VariantArray + Display + Copy>(part: &str) -> Vec<T> {
    T::VARIANTS.iter().copied().filter(|one| one.to_string().contains(part)).collect()
}

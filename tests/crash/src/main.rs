//! `cargo run --release -p crash`: every fault at every step of every flow.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use crash::flow::Flow;
use crash::proxy::{Fault, Step};
use crash::run::{Finished, run};
use crash::world::Error;
use futures_util::{StreamExt as _, stream};
use local::functions::Functions;
use local::{FunctionSource, Progress};
use strum::VariantArray as _;

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
    let _ = rustls_provider();
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" }.to_owned();
    let functions = Arc::new(Functions::prepare(&FunctionSource::Build { profile }, Progress::Terminal).await?);
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut cases: Vec<(Flow, Step, Fault)> = Vec::new();
    for flow in Flow::VARIANTS.iter().copied().filter(|flow| flow.to_string().contains(&arguments.flow)) {
        let Finished { steps, problems, .. } = run(flow, None, Arc::clone(&functions), &http).await?;
        if !problems.is_empty() {
            return Err(format!("{flow} without a fault: {}", problems.join("; ")).into());
        }
        writeln!(io::stdout(), "{flow}: {} steps", steps.len())?;
        for step in steps {
            let faults = Fault::VARIANTS.iter().filter(|fault| fault.to_string().contains(&arguments.fault));
            cases.extend(faults.map(|fault| (flow, step.clone(), *fault)));
        }
    }
    let mut runs = stream::iter(cases.into_iter().map(|(flow, step, fault)| {
        let (functions, http) = (Arc::clone(&functions), http.clone());
        async move {
            let finished = run(flow, Some((step.clone(), fault)), functions, &http).await;
            (flow, step, fault, finished)
        }
    }))
    .buffer_unordered(arguments.concurrency);
    let (mut right, mut missed, mut wrong) = (BTreeMap::<String, u32>::new(), 0, 0);
    while let Some((flow, step, fault, finished)) = runs.next().await {
        let problems = match finished {
            Ok(finished) if !finished.was_reached => {
                missed += 1;
                writeln!(io::stdout(), "NOT REACHED {flow}, {step}, {fault}")?;
                continue;
            }
            Ok(finished) => finished.problems,
            Err(error) => vec![error.to_string()],
        };
        if problems.is_empty() {
            *right.entry(fault.to_string()).or_default() += 1;
        } else {
            wrong += 1;
            writeln!(io::stdout(), "WRONG {flow}, {step}, {fault}: {}", problems.join("; "))?;
        }
    }
    for (fault, count) in &right {
        writeln!(io::stdout(), "{fault}: {count} right")?;
    }
    let all: u32 = right.values().sum();
    writeln!(io::stdout(), "{all} right, {wrong} wrong, {missed} not reached")?;
    Ok(wrong == 0 && missed == 0)
}

/// Nothing here uses TLS, but the HTTP client does not start without. Another may have been first, which is as good.
fn rustls_provider() -> Result<(), ()> {
    rustls::crypto::ring::default_provider().install_default().map_err(drop)
}

//! Runs a flow with a fault at one of its steps.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use load::front::answer;
use local::functions::Functions;
use local::runtime_api::InvocationResult;
use local::{FunctionSource, Progress};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::flow::Flow;
use crate::proxy::{Fault, Step};
use crate::world::{Error, World};

/// What came of a run.
#[derive(Debug)]
pub struct Finished {
    /// The steps that were seen.
    pub steps: Vec<Step>,
    /// Whether the broken step was among them.
    pub was_reached: bool,
    /// What is not as it has to be.
    pub problems: Vec<String>,
}

/// How long a stalled call may take once it goes on. Chosen freely.
const LATE_CALL: Duration = Duration::from_secs(20);

/// How long a task may take in all, in seconds: what is lost waits for its deadline, a day after its submission.
const LONGEST: i64 = 2 * 24 * 3600;

/// What came of many runs.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// How many steps each flow has.
    pub steps: BTreeMap<String, usize>,
    /// How many runs ended right, by fault.
    pub right: BTreeMap<String, usize>,
    /// Those that did not, and why.
    pub wrong: Vec<String>,
}

impl Outcomes {
    /// Whether every run reached its step and ended right.
    pub fn are_right(&self) -> bool {
        self.wrong.is_empty()
    }
}

impl Display for Outcomes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (flow, steps) in &self.steps {
            writeln!(formatter, "{flow}: {steps} steps")?;
        }
        for wrong in &self.wrong {
            writeln!(formatter, "WRONG {wrong}")?;
        }
        for (fault, count) in &self.right {
            writeln!(formatter, "{fault}: {count} right")?;
        }
        let (steps, right): (usize, usize) = (self.steps.values().sum(), self.right.values().sum());
        write!(formatter, "{steps} steps, {} runs, {right} right, {} wrong", right + self.wrong.len(), self.wrong.len())
    }
}

/// Builds the functions, runs each flow without a fault to list its steps, and then with every fault at every step, so many at a
/// time.
pub async fn every(flows: &[Flow], faults: &[Fault], concurrency: usize) -> Result<Outcomes, Error> {
    // Nothing here uses TLS, but the HTTP client does not start without. Another may have been first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" }.to_owned();
    let functions = Arc::new(Functions::prepare(&FunctionSource::Build { profile }, Progress::Terminal).await?);
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut outcomes = Outcomes::default();
    let mut cases: Vec<(Flow, Step, Fault)> = Vec::new();
    for flow in flows.iter().copied() {
        let Finished { steps, problems, .. } = run(flow, None, Arc::clone(&functions), &http).await?;
        if !problems.is_empty() {
            return Err(format!("{flow} without a fault: {}", problems.join("; ")).into());
        }
        outcomes.steps.insert(flow.to_string(), steps.len());
        cases.extend(steps.into_iter().flat_map(|step| faults.iter().map(move |fault| (flow, step.clone(), *fault))));
    }
    let mut runs = stream::iter(cases.into_iter().map(|(flow, step, fault)| {
        let (functions, http) = (Arc::clone(&functions), http.clone());
        async move {
            let finished = run(flow, Some((step.clone(), fault)), functions, &http).await;
            (format!("{flow}, {step}, {fault}"), fault, finished)
        }
    }))
    .buffer_unordered(concurrency);
    while let Some((name, fault, finished)) = runs.next().await {
        match finished {
            Ok(Finished { was_reached: false, .. }) => outcomes.wrong.push(format!("{name}: it was not reached")),
            Ok(Finished { problems, .. }) if problems.is_empty() => {
                *outcomes.right.entry(fault.to_string()).or_default() += 1;
            }
            Ok(Finished { problems, .. }) => outcomes.wrong.push(format!("{name}: {}", problems.join("; "))),
            Err(error) => outcomes.wrong.push(format!("{name}: {error}")),
        }
    }
    drop(runs);
    Ok(outcomes)
}

/// Runs a flow. Without a target nothing breaks.
pub async fn run(
    flow: Flow,
    target: Option<(Step, Fault)>,
    functions: Arc<Functions>,
    http: &reqwest::Client,
) -> Result<Finished, Error> {
    let world = World::start(flow.provider(), flow.script(), functions, http).await?;
    let event = prepare(&world, flow).await?;
    let fault = target.as_ref().map(|(_, fault)| *fault);
    let arrives_late = flow == Flow::Submission
        && target.as_ref().is_some_and(|(step, fault)| step.is_submission() && *fault == Fault::Stalled);
    world.injector.arm(target);
    let acknowledged = invoke(&world, flow, event.clone(), fault).await?;
    let (steps, was_reached) = world.injector.disarm();
    let mut problems = Vec::new();
    // The body of every callback that tells of an end is kept.
    if acknowledged && world.item().await?.is_none_or(|item| item["raw"].is_null()) {
        problems.push("a callback was acknowledged and not recorded".to_owned());
    }
    match flow {
        Flow::Submission => world.submit_again().await?,
        // What was announced is final until somebody says otherwise, and nobody has: the provider repeats what got no 2xx.
        Flow::SuccessAfterFailure if !acknowledged => {
            world.function("callback").await?.invoke(event.clone(), World::time_limit("callback")).await;
        }
        _ => {}
    }
    world.recover().await?;
    if world.passed() > LONGEST {
        problems.push(format!("it took {} hours", world.passed() / 3600));
    }
    // The queue delivers at least once, so once more at the end.
    if flow.function() == "process" {
        world.function("process").await?.invoke(event, World::time_limit("process")).await;
    }
    // A success after a failure is announced as well, and so is that of a submission which arrived after its task was lost.
    let announcements = if flow.is_reconsidered() || arrives_late { 2 } else { 1 };
    problems.extend(world.problems(announcements).await?);
    Ok(Finished { steps, was_reached, problems })
}

/// Brings everything to where the flow begins. Returns the event for its function.
async fn prepare(world: &World, flow: Flow) -> Result<Value, Error> {
    if flow == Flow::Submission {
        return Ok(world.submission());
    }
    let (status, view) =
        answer(world.invoke("tasks", world.submission()).await.map_err(|_| load::Error::Missing("tasks".to_owned())));
    if status != 201 {
        return Err(format!("the submission returned {status}: {view}").into());
    }
    let callback = world.finished(flow.is_reconsidered()).await?;
    match flow {
        Flow::Submission => unreachable!("it was returned"),
        Flow::NewCallback | Flow::Hint => Ok(callback),
        Flow::DuplicateCallback => {
            world.invoke("callback", callback.clone()).await?;
            Ok(callback)
        }
        Flow::Report | Flow::ConfirmedHint | Flow::LargeCopy | Flow::MissingCover => {
            world.invoke("callback", callback).await?;
            world.message().await
        }
        Flow::PollRecovery => {
            world.let_time_pass().await?;
            Ok(json!({}))
        }
        Flow::SuccessAfterFailure | Flow::SuccessOverFailure => {
            world.invoke("callback", callback).await?;
            world.recover().await?;
            let success = world.finished(false).await?;
            if flow == Flow::SuccessAfterFailure {
                return Ok(success);
            }
            world.invoke("callback", success).await?;
            world.message().await
        }
    }
}

/// Invokes the flow's function with the fault. Returns whether it acknowledged a callback.
async fn invoke(world: &World, flow: Flow, event: Value, fault: Option<Fault>) -> Result<bool, Error> {
    let name = flow.function();
    let mut function = world.function(name).await?;
    // Lambda kills a function that exceeds its time.
    let invocation = timeout(World::time_limit(name), function.invoke(event, World::time_limit(name)));
    let mut invocation = std::pin::pin!(invocation);
    let invoked = tokio::select! {
        invoked = &mut invocation => invoked,
        () = world.injector.reached.notified() => {
            if fault != Some(Fault::Stalled) {
                // The process is killed here, in the middle of its call.
                return Ok(false);
            }
            if flow == Flow::Submission {
                world.submit_again().await?;
            }
            world.recover().await?;
            world.injector.go_on.notify_one();
            // Its caller may have hung up; the call is on its way all the same.
            timeout(LATE_CALL, world.injector.took_effect.notified())
                .await
                .map_err(|_| "the stalled call had no effect")?;
            invocation.await
        }
    };
    let status = match invoked {
        Ok(InvocationResult::Response(response)) => response["statusCode"].as_u64(),
        _ => None,
    };
    Ok(name == "callback" && status == Some(200))
}

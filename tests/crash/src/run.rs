//! Runs a flow with a fault at one of its steps.

use std::sync::Arc;

use local::functions::Functions;
use local::runtime_api::InvocationResult;
use serde_json::Value;
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

/// Runs a flow. Without a target nothing breaks.
pub async fn run(
    flow: Flow,
    target: Option<(Step, Fault)>,
    functions: Arc<Functions>,
    http: &reqwest::Client,
) -> Result<Finished, Error> {
    let world = World::start(flow, functions, http).await?;
    let event = world.prepare().await?;
    let fault = target.as_ref().map(|(_, fault)| *fault);
    world.injector.arm(target);
    invoke(&world, event.clone(), fault).await?;
    let (steps, was_reached) = world.injector.disarm();
    match flow {
        Flow::Submission => world.submit_again().await?,
        // What was announced is final until somebody says otherwise, and nobody has: the provider repeats what got no 2xx.
        Flow::SuccessAfterFailure => {
            world.function("callback").await?.invoke(event.clone(), World::time_limit("callback")).await;
        }
        _ => {}
    }
    world.recover().await?;
    // The queue delivers at least once, so once more at the end.
    if flow.function() == "process" {
        world.function("process").await?.invoke(event, World::time_limit("process")).await;
    }
    Ok(Finished { steps, was_reached, problems: world.problems().await? })
}

/// Invokes the flow's function with the fault.
async fn invoke(world: &World, event: Value, fault: Option<Fault>) -> Result<(), Error> {
    let name = world.flow.function();
    let mut function = world.function(name).await?;
    // Lambda kills a function that exceeds its time.
    let invocation = timeout(World::time_limit(name), function.invoke(event, World::time_limit(name)));
    let mut invocation = std::pin::pin!(invocation);
    tokio::select! {
        _ = &mut invocation => return Ok(()),
        () = world.injector.reached.notified() => {}
    }
    if fault == Some(Fault::Stalled) {
        if world.flow == Flow::Submission {
            world.submit_again().await?;
        }
        world.recover().await?;
        world.injector.go_on.notify_one();
        let _: Result<InvocationResult, _> = invocation.await;
    }
    // Otherwise the process is killed here, in the middle of its call.
    Ok(())
}

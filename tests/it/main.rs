//! The whole of reelhook, deployed from its template into the stand-in and run by the function binaries, against the
//! simulated providers. `cargo test -p it -- NAME` runs the cases whose names contain NAME.

mod callbacks;
mod journeys;
mod origins;
mod recovery;
mod submissions;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Trial};
use world::World;

/// A case by name.
struct Case {
    name: String,
    run: Box<dyn FnOnce(Arc<World>) -> LocalBoxFuture<'static, ()> + Send>,
}

impl Case {
    fn new<F>(name: impl Into<String>, run: impl FnOnce(Arc<World>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self { name: name.into(), run: Box::new(move |world| run(world).boxed_local()) }
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of a case is waiting: for the queue, for the schedule, for a time-out.
    arguments.test_threads.get_or_insert(16);
    let cases: Vec<Case> =
        [journeys::cases(), callbacks::cases(), recovery::cases(), submissions::cases(), origins::cases()]
            .into_iter()
            .flatten()
            .collect();
    if arguments.list {
        let trials = cases.into_iter().map(|case| Trial::test(case.name, || Ok(()))).collect();
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    let world = match runtime.block_on(World::start()) {
        Ok(world) => Arc::new(world),
        Err(error) => {
            world::say(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let trials = cases
        .into_iter()
        .map(|case| {
            let (world, handle) = (Arc::clone(&world), runtime.handle().clone());
            Trial::test(case.name, move || {
                handle.block_on((case.run)(world));
                Ok(())
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.has_failed() {
        let logs = runtime.block_on(world.stack.logs()).unwrap_or_else(|error| error.to_string());
        world::say(&format!("what the functions wrote:\n{logs}"));
    }
    // Ends the stand-in and the functions. `exit_code` instead of `exit`, which would not drop it.
    drop(world);
    conclusion.exit_code()
}

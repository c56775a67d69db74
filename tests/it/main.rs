//! End-to-end tests: the template deployed into the local AWS emulator, the real function binaries, the simulated providers.
//!
//! `cargo test -p it -- NAME` runs the cases whose names contain NAME. A case is named after its module and function; a
//! parametrised one has the parameter in brackets: `journeys::a_success_is_archived[kling]`.

/// A case named after the function that runs it. `case!(function[variant](arguments))` passes arguments after the world and
/// adds the variant to the name.
macro_rules! case {
    ($function:ident) => {
        $crate::Case::new(module_path!(), stringify!($function), $function)
    };
    ($function:ident[$variant:expr]($($argument:expr),+)) => {
        $crate::Case::new(module_path!(), &format!("{}[{}]", stringify!($function), $variant), move |world| {
            $function(world, $($argument),+)
        })
    };
}

mod adversary;
mod browser;
mod callbacks;
mod commands;
mod deployment;
mod examples;
mod journeys;
mod key_sets;
mod logs;
mod operations;
mod origins;
mod page;
mod recovery;
mod roles;
mod runbook;
mod submissions;
mod transitions;
mod world;

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Trial};
use world::World;

struct Case {
    name: String,
    needs_browser: bool,
    run: Box<dyn FnOnce(Arc<World>) -> LocalBoxFuture<'static, ()> + Send>,
}

impl Case {
    fn new<F>(module: &str, function: &str, run: impl FnOnce(Arc<World>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let module = module.rsplit("::").next().unwrap_or(module);
        let name = format!("{module}::{function}");
        Self { name, needs_browser: false, run: Box::new(move |world| run(world).boxed_local()) }
    }

    /// It runs only where a browser is.
    fn in_browser(self) -> Self {
        Self { needs_browser: true, ..self }
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Cases mostly wait: for the queue, the schedule, a timeout.
    arguments.test_threads.get_or_insert(16);
    let cases: Vec<Case> = [
        journeys::cases(),
        callbacks::cases(),
        key_sets::cases(),
        recovery::cases(),
        submissions::cases(),
        operations::cases(),
        commands::cases(),
        page::cases(),
        origins::cases(),
        transitions::cases(),
        adversary::cases(),
        logs::cases(),
        runbook::cases(),
        deployment::cases(),
        examples::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if arguments.list {
        let trials = cases.into_iter().map(|case| Trial::test(case.name, || Ok(()))).collect();
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let world = match runtime.block_on(World::start()) {
        Ok(world) => Arc::new(world),
        Err(error) => {
            world::print_error(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let has_browser = browser::installed().is_some();
    if !has_browser {
        let required = std::env::var_os("REELHOOK_BROWSER").is_some_and(|wanted| wanted == "required");
        world::print_error("chromium and chromedriver are not in PATH: the cases of `page` that need them are ignored");
        if required {
            return ExitCode::FAILURE;
        }
    }
    let failures = Arc::new(Mutex::new(Vec::new()));
    let trials = cases
        .into_iter()
        .map(|case| {
            let (world, handle, failures) = (Arc::clone(&world), runtime.handle().clone(), Arc::clone(&failures));
            let is_ignored = case.needs_browser && !has_browser;
            let trial = Trial::test(case.name.clone(), move || {
                let run = AssertUnwindSafe(|| handle.block_on((case.run)(world)));
                panic::catch_unwind(run).map_err(|panic| {
                    let message = panic_message(&*panic);
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{}: {message}", case.name));
                    message.into()
                })
            });
            trial.with_ignored_flag(is_ignored)
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut is_right = runtime.block_on(logs::give_nothing_away(&world));
    // A part of the cases does not make every call.
    if arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.ignored {
        is_right &= runtime.block_on(roles::allow_what_is_used(&world));
    }
    if conclusion.has_failed() {
        let logs = runtime.block_on(world.stack.logs()).unwrap_or_else(|error| error.to_string());
        world::print_error(&format!("logs of the functions:\n{logs}"));
        // Once more below the logs, where the end of a CI log shows them.
        let failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        world::print_error(&format!("failed cases:\n{}", failures.join("\n")));
    }
    // Stops the emulator and the functions. `Conclusion::exit` would not drop the world.
    drop(world);
    if is_right { conclusion.exit_code() } else { ExitCode::FAILURE }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

//! How a callback's latency grows with the callbacks a second, and a run of `poll` with the tasks that are open.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use load::pool::Pool;
use local::runtime_api::InvocationResult;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::world::World;
use crate::{Error, TIMEOUT, milliseconds, poll, report};

/// New callbacks a second, at even intervals, and how many there are of each rate.
const RATES: [(u32, u32); 5] = [(1, 20), (10, 100), (100, 1_000), (400, 4_000), (1_000, 10_000)];

/// Warm environments of `callback`. One takes a callback at a time, as on Lambda.
const ENVIRONMENTS: usize = 8;

/// Open tasks, all of them due.
const OPEN: [usize; 3] = [1_000, 10_000, 100_000];

/// Both tables.
pub(crate) async fn table(
    [callback, poll, tasks]: [&Path; 3],
    world: &World,
    directory: &Path,
) -> Result<String, Error> {
    let mut text = format!(
        "\nnew callbacks at even intervals into {ENVIRONMENTS} warm environments, all on this machine with what they call; from when a \
         callback is sent to its response\n\n\
         | sent a second | responded a second | median, ms | 99 of 100 within, ms | slowest, ms |\n|---|---|---|---|---|\n"
    );
    let environments = Arc::new(Pool::start(callback, &world.environment, ENVIRONMENTS, TIMEOUT).await?);
    for (rate, count) in RATES {
        report(&format!("{count} callbacks, {rate} a second"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {rate} | {} |", callbacks(&environments, world, rate, count).await?);
    }
    drop(environments);
    text.push_str(&poll::heading());
    for count in OPEN {
        report(&format!("a run of poll over {count} open tasks"));
        let _ = writeln!(text, "| {count}, open | {} |", poll::run(count, poll::OPEN, poll, tasks, directory).await?);
    }
    Ok(text)
}

async fn callbacks(environments: &Arc<Pool>, world: &World, rate: u32, count: u32) -> Result<String, Error> {
    let mut events = vec![];
    for _ in 0..count {
        events.push(world.new_callback().await?);
    }
    let began = Instant::now();
    let mut responses = JoinSet::new();
    for (number, event) in (0..count).zip(events) {
        let sent = began + Duration::from_secs(1) * number / rate;
        sleep_until(sent.into()).await;
        let environments = Arc::clone(environments);
        responses.spawn(async move {
            let result = environments.invoke(event).await;
            (result, sent.elapsed())
        });
    }
    let mut latencies = vec![];
    while let Some(response) = responses.join_next().await {
        let (result, latency) = response?;
        match result? {
            InvocationResult::Response(response) if response["statusCode"] == 200 => latencies.push(latency),
            other => return Err(format!("a callback was not acknowledged: {other:?}").into()),
        }
    }
    let per_second = f64::from(count) / began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let of_hundred = |part: usize| latencies[(latencies.len() * part / 100).min(latencies.len() - 1)];
    let [median, most, slowest] = [50, 99, 100].map(|part| milliseconds(of_hundred(part)));
    Ok(format!("{per_second:.0} | {median} | {most} | {slowest}"))
}

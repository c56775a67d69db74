//! `backlog`: what waits, and where.

use std::collections::BTreeMap;

use aws_sdk_sqs::types::QueueAttributeName as Name;
use local::Error;
use local::deployed::Deployed;
use reelhook_aws::clock;
use reelhook_core::Timestamp;
use reelhook_core::record::is_overdue;
use serde_json::{Value, json};

use super::output::{span, table};
use super::{Code, Output, refused};

/// The open tasks of one provider.
#[derive(Default)]
struct Open {
    count: usize,
    overdue: usize,
    longest: Option<Timestamp>,
}

pub(super) async fn run(deployed: &Deployed, output: Output) -> Result<Code, Error> {
    let now = clock::now();
    let mut providers = BTreeMap::<&str, Open>::new();
    for (task, due) in deployed.table.open(u16::MAX).await.map_err(refused)? {
        let open = providers.entry(task.provider().name()).or_default();
        open.count += 1;
        if is_overdue(due, now) {
            open.overdue += 1;
            open.longest = Some(open.longest.map_or(due, |longest| longest.min(due)));
        }
    }
    let mut queues = Vec::new();
    for (name, url) in
        [("work", &deployed.outputs.queue_url), ("dead letters", &deployed.outputs.dead_letter_queue_url)]
    {
        queues.push((name, messages(deployed, url).await?));
    }
    let behind = |open: &Open| open.longest.map(|longest| now.seconds() - longest.seconds());
    let document = json!({
        "open": providers.iter().map(|(provider, open)| json!({
            "provider": provider, "open": open.count, "overdue": open.overdue, "longest_overdue_seconds": behind(open),
        })).collect::<Vec<_>>(),
        "queues": queues.iter().map(|(name, [waiting, in_flight])| json!({
            "queue": name, "waiting": waiting, "in_flight": in_flight,
        })).collect::<Vec<Value>>(),
    });
    output.print(&document, || {
        let rows = providers.iter().map(|(provider, open)| {
            let longest = behind(open).map_or_else(|| "-".to_owned(), span);
            vec![(*provider).to_owned(), open.count.to_string(), open.overdue.to_string(), longest]
        });
        let open = table(&["provider", "open", "overdue", "longest overdue"], rows);
        let rows = queues
            .iter()
            .map(|(name, [waiting, in_flight])| vec![(*name).to_owned(), waiting.to_string(), in_flight.to_string()]);
        format!("{open}\n{}", table(&["queue", "waiting", "in flight"], rows))
    });
    Ok(Code::Done)
}

/// About how many messages wait and are in flight.
async fn messages(deployed: &Deployed, url: &str) -> Result<[u64; 2], Error> {
    const NAMES: [Name; 2] = [Name::ApproximateNumberOfMessages, Name::ApproximateNumberOfMessagesNotVisible];
    let request = deployed.sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(NAMES.to_vec()));
    let response =
        request.send().await.map_err(|error| Error::Refused(format!("the queue {url} cannot be read: {error}")))?;
    let count = |name: &Name| response.attributes()?.get(name)?.parse().ok();
    Ok(NAMES.map(|name| count(&name).unwrap_or_default()))
}

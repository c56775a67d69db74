//! Every conditional write of the table is a value that the table renders to `DynamoDB` and `Transition::evaluate` runs in
//! memory. Random items and transitions go through both, and the results do not differ. The same cases run against `local-aws`,
//! whose table a load is judged by.
//!
//! `REELHOOK_TRANSITION_CASES` is the number of cases of each kind, `REELHOOK_TRANSITION_SEED` repeats a run.

mod arbitrary;

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, PutRequest, WriteRequest};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use local_aws::LocalAws;
use reelhook_aws::clients::{Clients, RetryPolicy};
use reelhook_aws::table::{Table, TableError};
use reelhook_core::item::{Attribute, Item, Value};
use reelhook_core::transition::{Applied, Transition};

use self::arbitrary::{CONSTRUCTORS, Draw};
use crate::Case;
use crate::world::{World, print_error};

/// Cases of each kind, unless the environment sets another number.
const CASES: u64 = 1_000;

/// Cases whose items are put and read in one call each; the most that `BatchWriteItem` takes.
const BATCH: usize = 25;

/// Batches at a time; chosen freely.
const CONCURRENT_BATCHES: usize = 4;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(the_table_does_as_the_evaluator["constructors"](Kind::Constructor)),
        case!(the_table_does_as_the_evaluator["expressions"](Kind::Expression)),
        case!(the_table_of_local_aws_does_as_the_evaluator["constructors"](Kind::Constructor)),
        case!(the_table_of_local_aws_does_as_the_evaluator["expressions"](Kind::Expression)),
        case!(every_constructor_is_tested),
    ]
}

#[derive(Clone, Copy)]
enum Kind {
    /// What the constructors of `reelhook_core::transition` make.
    Constructor,
    /// Arbitrary conditions and effects over arbitrary attributes.
    Expression,
}

/// A transition and the item it meets.
struct Trial {
    number: u64,
    name: &'static str,
    item: Option<Item>,
    transition: Transition,
}

async fn the_table_does_as_the_evaluator(world: Arc<World>, kind: Kind) {
    compare(&world, world.stack.endpoint(), kind).await;
}

async fn the_table_of_local_aws_does_as_the_evaluator(world: Arc<World>, kind: Kind) {
    let aws = LocalAws::start(0).await.expect("it starts");
    compare(&world, &aws.endpoint(), kind).await;
}

async fn compare(world: &World, endpoint: &str, kind: Kind) {
    let number_of =
        |name| env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")));
    let cases = number_of("REELHOOK_TRANSITION_CASES").unwrap_or(CASES);
    let seed = number_of("REELHOOK_TRANSITION_SEED").unwrap_or_else(|| RandomState::new().hash_one("seed"));
    let name = match kind {
        Kind::Constructor => "constructors",
        Kind::Expression => "expressions",
    };
    world.create_table_at(endpoint, name).await;
    let client = client(endpoint);
    let store = Store { table: Table::new(client.clone(), name.to_owned()), client, name };

    let started = std::time::Instant::now();
    let trials: Vec<Trial> = (0..cases).map(|number| Trial::new(kind, seed, number)).collect();
    // How often each was done and refused.
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut differences = Vec::new();
    let mut batches =
        stream::iter(trials.chunks(BATCH)).map(|batch| store.run(batch)).buffer_unordered(CONCURRENT_BATCHES);
    while let Some(results) = batches.next().await {
        for (trial, applied, read) in results {
            let (done, refused) = counts.entry(trial.name).or_default();
            match &applied {
                Ok(Applied::Done(_)) => *done += 1,
                Ok(Applied::Refused(_)) => *refused += 1,
                Err(_) => {}
            }
            differences.extend(trial.difference(&applied, read.as_ref()));
        }
    }
    if env::var_os("REELHOOK_TRANSITION_CASES").is_some() {
        let seconds = started.elapsed().as_secs_f64();
        print_error(&format!("{cases} {name} in {seconds:.1} s, {} differences; done and refused:", differences.len()));
        for (name, count) in &counts {
            print_error(&format!("    {name:20} {count:?}"));
        }
    }
    assert!(
        differences.is_empty(),
        "{} cases differ; REELHOOK_TRANSITION_CASES={cases} REELHOOK_TRANSITION_SEED={seed} repeats them. The first:\n{}",
        differences.len(),
        differences[0]
    );
    if cases >= CASES {
        for (name, (done, refused)) in counts {
            assert!(done > 0 && refused > 0, "{name} was done {done} times and refused {refused} times");
        }
    }
}

/// The list of constructors is the one in the sources.
async fn every_constructor_is_tested(_: Arc<World>) {
    let sources = [
        include_str!("../../functions/core/src/transition/submissions.rs"),
        include_str!("../../functions/core/src/transition/reports.rs"),
        include_str!("../../functions/core/src/transition/leases.rs"),
        include_str!("../../functions/core/src/transition/ownership.rs"),
    ];
    let constructors: Vec<&str> = sources
        .iter()
        .flat_map(|source| source.split("\npub fn ").skip(1))
        .filter(|function| function.split('{').next().is_some_and(|signature| signature.contains("-> Transition")))
        .filter_map(|function| function.split('(').next())
        .collect();
    assert_eq!(CONSTRUCTORS.map(|(name, _)| name).to_vec(), constructors);
}

impl Trial {
    fn new(kind: Kind, seed: u64, number: u64) -> Self {
        let mut draw = Draw::new(seed, number);
        let (name, transition) = match kind {
            Kind::Constructor => {
                let index = usize::try_from(number).expect("a small number") % CONSTRUCTORS.len();
                let (name, constructor) = CONSTRUCTORS[index];
                (name, constructor(&mut draw))
            }
            Kind::Expression => ("expression", draw.expression()),
        };
        Self { number, name, item: draw.item(&transition), transition }
    }

    /// How the table differs from the evaluator, in what it returned or in what it holds afterwards.
    fn difference(&self, applied: &Result<Applied<Item>, TableError>, read: Option<&Item>) -> Option<String> {
        let Self { number, name, item, transition } = self;
        let expected = without_write_id(transition.evaluate(item.clone()));
        let (Applied::Done(held) | Applied::Refused(held)) = &expected;
        let returned = applied.as_ref().ok().cloned().map(without_write_id);
        let read_back = without_write_id(Applied::Done(read.cloned()));
        (returned.as_ref() != Some(&expected) || read_back != Applied::Done(held.clone())).then(|| {
            format!(
                "case {number}, {name}\nitem: {item:?}\ntransition: {transition:?}\nevaluator: {expected:?}\ntable: \
                 {applied:?}\nread afterwards: {read:?}"
            )
        })
    }
}

/// Only the table writes it.
fn without_write_id(mut applied: Applied<Item>) -> Applied<Item> {
    let (Applied::Done(item) | Applied::Refused(item)) = &mut applied;
    if let Some(item) = item {
        item.remove(&Attribute::WriteId);
    }
    applied
}

/// A table, and a client of its own to put and read items with.
struct Store {
    table: Table,
    client: Client,
    name: &'static str,
}

impl Store {
    /// Puts the items, applies the transitions, and reads what is there then.
    async fn run<'a>(&self, trials: &'a [Trial]) -> Vec<(&'a Trial, Result<Applied<Item>, TableError>, Option<Item>)> {
        self.put(trials.iter().filter_map(|trial| trial.item.as_ref())).await;
        let applied = join_all(trials.iter().map(|trial| self.table.apply_to_item(&trial.transition))).await;
        let mut read = self.read(trials.iter().map(|trial| trial.transition.task.to_string())).await;
        let results = trials.iter().zip(applied);
        results.map(|(trial, applied)| (trial, applied, read.remove(&trial.transition.task.to_string()))).collect()
    }

    async fn put(&self, items: impl Iterator<Item = &Item>) {
        let requests: Vec<WriteRequest> = items
            .map(|item| {
                let item = item.iter().map(|(attribute, value)| (attribute.to_string(), stored(value))).collect();
                let put = PutRequest::builder().set_item(Some(item)).build().expect("it has an item");
                WriteRequest::builder().put_request(put).build()
            })
            .collect();
        if !requests.is_empty() {
            let response = self.client.batch_write_item().request_items(self.name, requests).send().await;
            let left = response.expect("the items are put").unprocessed_items;
            assert!(left.is_none_or(|left| left.is_empty()), "items were left out");
        }
    }

    async fn read(&self, tasks: impl Iterator<Item = String>) -> HashMap<String, Item> {
        let keys = tasks.map(|task| HashMap::from([("task".to_owned(), AttributeValue::S(task))])).collect();
        let keys = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build().expect("keys");
        let response = self.client.batch_get_item().request_items(self.name, keys).send().await;
        let response = response.expect("the items are read");
        assert!(response.unprocessed_keys.is_none_or(|left| left.is_empty()), "keys were left out");
        let items = response.responses.and_then(|mut tables| tables.remove(self.name)).unwrap_or_default();
        items
            .into_iter()
            .map(|stored| {
                let task = stored["task"].as_s().expect("a key is a text").clone();
                (task, stored.into_iter().map(|(name, value)| (name.parse().expect("known"), read(value))).collect())
            })
            .collect()
    }
}

fn stored(value: &Value) -> AttributeValue {
    match value {
        Value::Text(text) => AttributeValue::S(text.clone()),
        Value::Number(number) => AttributeValue::N(number.to_string()),
    }
}

fn read(value: AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => Value::Text(text),
        AttributeValue::N(digits) => Value::Number(digits.parse().expect("a whole number")),
        other => panic!("neither text nor number: {other:?}"),
    }
}

fn client(endpoint: &str) -> Client {
    let credentials = Credentials::new(local::ACCESS_KEY_ID, local::SECRET_ACCESS_KEY, None, None, "test");
    Clients::new(RetryPolicy::BACKGROUND, credentials, local::REGION.to_owned(), Some(endpoint)).dynamodb()
}

//! What happens to each task. Follows from a seed and the task's number alone.

use std::time::Duration;

use simulator::Provider;

/// Of a thousand tasks, these many have all callbacks at least twice.
pub const DUPLICATED: u64 = 300;
/// The callbacks of these many are lost.
pub const LOST: u64 = 50;
/// Those of these many come late or out of order.
pub const LATE: u64 = 50;
/// These many have forgeries posted about them.
pub const FORGED: u64 = 20;
/// These many fail at the provider.
pub const FAILING: u64 = 100;
/// The provider says that these many have failed, and then that they have succeeded.
pub const RECONSIDERED: u64 = 10;
/// These many are submitted twice at the same moment.
pub const SUBMITTED_TWICE: u64 = 30;

/// Every file of one task in a thousand is large enough for a multipart upload.
const LARGE_EVERY: u64 = 1000;
/// More than what is written with one `PutObject`.
const LARGE: u64 = 17_500_000;

/// How a task ends at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its files.
    Succeeded,
    /// With an error of the provider.
    Failed,
    /// With a refusal of the content.
    Moderated,
    /// With a failure, and a success after it.
    Reconsidered,
}

/// What becomes of the callback that reports the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It comes once.
    Once,
    /// It comes this often at the same moment.
    Concurrent(u32),
    /// It comes twice, one after the other.
    Repeated,
    /// It never comes.
    Lost,
    /// It comes when a status poll has reported the end long ago.
    Late,
    /// A callback about progress comes after it.
    Overtaking,
    /// It comes before the response to the submission.
    BeforeResponse,
}

impl Delivery {
    /// Whether it comes more than once.
    pub fn is_duplicated(self) -> bool {
        matches!(self, Self::Concurrent(_) | Self::Repeated)
    }

    /// Whether it comes late or out of order.
    pub fn is_late(self) -> bool {
        matches!(self, Self::Late | Self::Overtaking | Self::BeforeResponse)
    }
}

/// What somebody posts who is not the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// A genuine body to a URL with another token.
    WrongToken,
    /// A genuine body about another id, with the headers of the genuine one, to the learned URL.
    WrongSignature,
    /// A failure of the task, to its learned URL.
    Failure,
    /// A success of the task with another task's files, to its learned URL.
    Success,
    /// A success of another task, to the learned URL.
    OtherTask,
}

impl Forgery {
    const ALL: [Self; 5] = [Self::WrongToken, Self::WrongSignature, Self::Failure, Self::Success, Self::OtherTask];
}

/// What happens to one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPlan {
    /// Where it is submitted.
    pub provider: Provider,
    /// The caller's id.
    pub id: String,
    /// How it ends.
    pub ending: Ending,
    /// What becomes of its callback.
    pub delivery: Delivery,
    /// What is forged about it.
    pub forgery: Option<Forgery>,
    /// Whether it is submitted twice at the same moment.
    pub is_submitted_twice: bool,
    /// From its submission to its end.
    pub delay: Duration,
    /// Length of its video.
    pub bytes: u64,
}

/// The providers in a load. It is about callbacks, so those that can only be polled take no part.
pub fn calling_back() -> Vec<Provider> {
    Provider::ALL.into_iter().filter(|provider| provider.calls_back()).collect()
}

impl TaskPlan {
    /// The plan of task `number`, from 0.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut draw = Draw(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let providers = calling_back();
        let provider = providers[usize::try_from(number).unwrap_or_default() % providers.len()];
        let delivery = match draw.below(1000) {
            drawn if drawn < DUPLICATED => match draw.below(3) {
                0 => Delivery::Repeated,
                1 => Delivery::Concurrent(2),
                _ => Delivery::Concurrent(5),
            },
            drawn if drawn < DUPLICATED + LOST => Delivery::Lost,
            drawn if drawn < DUPLICATED + LOST + LATE => {
                [Delivery::Late, Delivery::Overtaking, Delivery::BeforeResponse][draw.index(3)]
            }
            _ => Delivery::Once,
        };
        let ending = match draw.below(1000) {
            drawn if drawn < FAILING => [Ending::Failed, Ending::Moderated][draw.index(2)],
            // Without the second callback nobody hears that the provider has changed its mind.
            drawn if drawn < FAILING + RECONSIDERED && (delivery == Delivery::Once || delivery.is_duplicated()) => {
                Ending::Reconsidered
            }
            _ => Ending::Succeeded,
        };
        let forgery = (draw.below(1000) < FORGED).then(|| Forgery::ALL[draw.index(Forgery::ALL.len())]);
        let is_submitted_twice = draw.below(1000) < SUBMITTED_TWICE;
        // What is forged comes while the task is open.
        let delay = Duration::from_millis(if forgery.is_some() { 3000 } else { 300 + draw.below(1200) });
        let is_large = number % LARGE_EVERY == LARGE_EVERY / 100;
        let bytes = if is_large { LARGE + draw.below(1_000_000) } else { 20_000 + draw.below(60_000) };
        let id = format!("load-{number:06}");
        Self { provider, id, ending, delivery, forgery, is_submitted_twice, delay, bytes }
    }

    /// Its key.
    pub fn key(&self) -> String {
        format!("{}/{}", self.provider, self.id)
    }

    /// A prompt that names the task and has the simulator do all this.
    pub fn prompt(&self) -> String {
        let delivery = match self.delivery {
            Delivery::Once => String::new(),
            Delivery::Concurrent(times) => format!("deliveries={times}"),
            Delivery::Repeated => "deliveries=2 spaced".to_owned(),
            // The late one is sent on demand.
            Delivery::Lost | Delivery::Late => "callback=lose".to_owned(),
            Delivery::Overtaking => "order=late_processing".to_owned(),
            Delivery::BeforeResponse => "early".to_owned(),
        };
        let ending = match self.ending {
            Ending::Succeeded => "outcome=succeed",
            Ending::Failed => "outcome=fail",
            Ending::Moderated => "outcome=moderated",
            Ending::Reconsidered => "outcome=fail then=succeed",
        };
        let (delay, bytes) = (self.delay.as_secs_f64(), self.bytes);
        marked(&self.key(), &format!("{ending} {delivery} delay={delay} size={bytes}"))
    }
}

/// A prompt that names the task, so that its submission can be recognised at the provider.
pub fn marked(key: &str, script: &str) -> String {
    format!("a paper boat <{key}> [simulate {script}]")
}

/// The task that a submission names.
pub fn mark(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("a paper boat <")?;
    rest.split_once('>').map(|(key, _)| key.to_owned())
}

/// [SplitMix64](https://prng.di.unimi.it/splitmix64.c).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_those_that_are_promised() {
        let plans: Vec<_> = (0..20_000).map(|number| TaskPlan::new(7, number)).collect();
        let share = |holds: fn(&TaskPlan) -> bool| plans.iter().filter(|plan| holds(plan)).count() / 20;
        for (name, of_a_thousand, expected) in [
            ("duplicated", share(|plan| plan.delivery.is_duplicated()), DUPLICATED),
            ("lost", share(|plan| plan.delivery == Delivery::Lost), LOST),
            ("late", share(|plan| plan.delivery.is_late()), LATE),
            ("forged", share(|plan| plan.forgery.is_some()), FORGED),
            ("failing", share(|plan| matches!(plan.ending, Ending::Failed | Ending::Moderated)), FAILING),
            ("twice", share(|plan| plan.is_submitted_twice), SUBMITTED_TWICE),
            ("kling", share(|plan| plan.provider == Provider::Kling), 1000 / calling_back().len() as u64),
        ] {
            assert!((of_a_thousand as u64).abs_diff(expected) <= 1 + expected / 10, "{name}: {of_a_thousand}");
        }
        assert_eq!(plans[5], TaskPlan::new(7, 5));
        assert_ne!(plans[5], TaskPlan::new(8, 5));
    }

    #[test]
    fn a_submission_is_recognised_by_its_prompt() {
        let plan = TaskPlan::new(1, 12);
        let body = serde_json::json!({ "input": { "prompt": plan.prompt() } }).to_string();
        assert_eq!(mark(body.as_bytes()), Some(plan.key()));
        assert_eq!(mark(b"{}"), None);
        simulator::Script::default().read_text(&plan.prompt()).expect("the simulator knows the script");
    }
}

//! Random items, transitions and expressions. All values come from small domains, and most items are bent towards the
//! condition of their transition, so that conditions hold about as often as they fail.

use reelhook_core::annotations::{Annotations, Given};
use reelhook_core::callback::{Accepted, Hint, Kept, Open, Raw, Reporter};
use reelhook_core::item::{Attribute as A, Item, Value};
use reelhook_core::providers::adapter::HintReason;
use reelhook_core::record::{DUE_SHARDS, Fallback, PendingHint, Record, State, SubmissionAttempt};
use reelhook_core::report::{Artifact, Failure, Kind, Outcome, Progress, Reason, Report, Source};
use reelhook_core::result::{Checksum, StoredArtifact};
use reelhook_core::transfer::checkpoint::{Checkpoint, Checkpoints};
use reelhook_core::transition::reports::Due;
use reelhook_core::transition::submissions::{CancellationResponse, Registration};
use reelhook_core::transition::{Condition, Effect, Transition, Write, leases, ownership, reports, submissions};
use reelhook_core::{Provider, TaskKey, Timestamp};
use strum::VariantArray as _;

/// A transition with random arguments.
type Constructor = fn(&mut Draw) -> Transition;

/// Every constructor of `reelhook_core::transition`, by name.
pub(super) const CONSTRUCTORS: [(&str, Constructor); 27] = [
    ("register", |draw| {
        let known = draw.maybe(Draw::id);
        let registration = Registration {
            task: draw.key(),
            provider_task_id: known,
            given: draw.given(),
            marker: draw.maybe(Draw::id),
            submission: draw.maybe(Draw::attempt),
            due_at: draw.time(),
            deadline_at: draw.time(),
        };
        submissions::register(&registration, draw.time())
    }),
    ("identify", |draw| {
        let given = draw.given();
        submissions::identify(&draw.key(), &draw.id(), &given, draw.time(), Some(draw.time()))
    }),
    ("correct_identity", |draw| submissions::correct_identity(&draw.key(), &draw.id(), draw.time(), draw.time())),
    ("note_submission", |draw| {
        let given = draw.given();
        submissions::note_submission(&draw.key(), &draw.id(), &given, draw.time())
    }),
    ("withdraw", |draw| submissions::withdraw(&draw.key(), &draw.attempt())),
    ("resubmit", |draw| {
        let endpoint = draw.maybe(Draw::endpoint);
        let (interrupted, attempt) = (draw.attempt(), draw.attempt());
        let task = draw.key();
        submissions::resubmit(&task, &interrupted, &attempt, endpoint.as_deref(), draw.time(), draw.time())
    }),
    ("interrupt", |draw| submissions::interrupt(&draw.key(), &draw.attempt(), draw.time())),
    ("note_cancellation", |draw| {
        submissions::note_cancellation(&draw.key(), draw.cancellation_response(), draw.time(), draw.time())
    }),
    ("report", |draw| {
        let read = draw.maybe(Draw::record);
        reports::report(&draw.accepted(), read.as_ref(), draw.time(), draw.due())
    }),
    ("take_over", |draw| reports::take_over(&draw.accepted(), draw.time())),
    ("close", |draw| reports::close(&draw.accepted(), &draw.record(), draw.time())),
    ("note_hint", |draw| reports::note_hint(&draw.hint(), draw.time(), draw.time(), draw.due())),
    ("reopen", |draw| reports::reopen(&draw.hint(), draw.time())),
    ("restore", |draw| reports::restore(&draw.record())),
    ("remove", |draw| reports::remove(&draw.record())),
    ("note_open", |draw| {
        let (progress, endpoint) = (Progress::default(), draw.callback_endpoint());
        let open = Open { key: draw.key(), provider_task_id: draw.maybe(Draw::id), progress, endpoint };
        reports::note_open(&open, draw.time(), draw.time(), draw.time())
    }),
    ("keep", |draw| {
        let kept = Kept { key: draw.key(), raw: draw.raw() };
        reports::keep(&kept.key, &kept.raw, draw.time())
    }),
    ("claim", |draw| leases::claim(&draw.key(), draw.time(), draw.time())),
    ("renew", |draw| leases::renew(&draw.key(), draw.count(), draw.time())),
    ("release_open", |draw| {
        let hint = draw.maybe(Draw::pending_hint);
        leases::release_open(&draw.record(), draw.time(), hint.as_ref())
    }),
    ("release_unfinished", |draw| {
        let (checkpoints, error) = (draw.maybe(Draw::checkpoints), draw.maybe(Draw::text));
        leases::release_unfinished(&draw.record(), draw.time(), checkpoints.as_ref(), error.as_deref())
    }),
    ("settle", |draw| leases::settle(&draw.record(), &draw.report(), &draw.artifacts(), draw.time())),
    ("postpone", |draw| leases::postpone(&draw.record(), draw.time())),
    ("own", |draw| ownership::own(Provider::Kling, &draw.own_id(), &draw.owner(), draw.time())),
    ("reassign", |draw| {
        let (from, to) = (draw.owner(), draw.owner());
        ownership::reassign(Provider::Kling, &draw.own_id(), &from, &to, draw.time())
    }),
    ("disown", |draw| ownership::disown(Provider::Kling, &draw.own_id(), &draw.owner())),
    ("displace", |draw| ownership::displace(&draw.record(), draw.time())),
];

/// Draws everything about one case. The seed and the number of the case determine all of it.
pub(super) struct Draw {
    state: u64,
    case: u64,
}

impl Draw {
    pub(super) fn new(seed: u64, case: u64) -> Self {
        let mut draw = Self { state: seed ^ case.wrapping_mul(0xd1b5_4a32_d192_ed03), case };
        draw.state = draw.next();
        draw
    }

    /// The item a transition meets; absent in a part of the cases.
    pub(super) fn item(&mut self, transition: &Transition) -> Option<Item> {
        let mut item = (!self.one_in(4)).then(|| self.attributes());
        if !self.one_in(4) {
            self.satisfy(&transition.condition, &mut item);
            if self.one_in(2) {
                self.disturb(&transition.condition, &mut item);
            }
        }
        if let Some(item) = &mut item {
            for (attribute, value) in &mut *item {
                // `DynamoDB` fails the call that increments a text; the evaluator has no such error.
                if increments(transition, *attribute) {
                    if matches!(value, Value::Text(_)) {
                        *value = self.value(*attribute);
                    }
                } else if self.one_in(30) {
                    *value = self.mistyped(*attribute);
                }
            }
            item.insert(A::Task, transition.task.to_string().as_str().into());
        }
        item
    }

    /// A transition that no constructor makes.
    pub(super) fn expression(&mut self) -> Transition {
        let condition = self.condition(3);
        let write = if self.one_in(8) { Write::Delete } else { Write::Update(self.effects()) };
        Transition { action: "testing", task: self.key(), condition, write }
    }

    fn condition(&mut self, depth: u32) -> Condition {
        let attribute = self.pick(A::VARIANTS);
        match self.below(if depth == 0 { 4 } else { 8 }) {
            0 => Condition::Has(attribute),
            1 => Condition::Lacks(attribute),
            2 if self.one_in(8) => Condition::Is(attribute, self.mistyped(attribute)),
            2 => Condition::Is(attribute, self.value(attribute)),
            3 => match self.value(attribute) {
                Value::Number(number) => Condition::AtMost(attribute, number),
                Value::Text(_) => Condition::AtMost(attribute, self.time().seconds()),
            },
            4 | 5 => Condition::All(self.conditions(depth - 1)),
            _ => Condition::Any(self.conditions(depth - 1)),
        }
    }

    fn conditions(&mut self, depth: u32) -> Vec<Condition> {
        (0..=self.below(3)).map(|_| self.condition(depth)).collect()
    }

    fn effects(&mut self) -> Vec<Effect> {
        let one_in = 2 + self.below(16);
        let mut attributes = A::VARIANTS.to_vec();
        // The key cannot be changed, and the table adds the write id itself.
        attributes.retain(|attribute| !matches!(attribute, A::Task | A::WriteId) && self.one_in(one_in));
        if self.one_in(2) {
            attributes.reverse();
        }
        attributes.into_iter().map(|attribute| self.effect(attribute)).collect()
    }

    fn effect(&mut self, attribute: A) -> Effect {
        match (self.below(5), self.value(attribute)) {
            (0, value) => Effect::Set(attribute, value),
            (1, _) => Effect::Set(attribute, self.mistyped(attribute)),
            (2, value) => Effect::SetOnce(attribute, value),
            (3, Value::Number(_)) => Effect::Increment(attribute),
            _ => Effect::Remove(attribute),
        }
    }

    fn attributes(&mut self) -> Item {
        let mut item = Item::new();
        for attribute in A::VARIANTS {
            if self.one_in(2) {
                item.insert(*attribute, self.value(*attribute));
            }
        }
        item
    }

    fn record(&mut self) -> Record {
        let mut item = self.attributes();
        for attribute in [A::Task, A::State] {
            item.insert(attribute, self.value(attribute));
        }
        Record::from_item(&item).expect("every value is of its attribute's domain")
    }

    /// Changes an item so that a condition holds, where it does not contradict itself.
    fn satisfy(&mut self, condition: &Condition, item: &mut Option<Item>) {
        match condition {
            Condition::Lacks(A::Task) => *item = None,
            Condition::Lacks(attribute) => {
                item.as_mut().and_then(|item| item.remove(attribute));
            }
            Condition::Has(attribute) => {
                item.get_or_insert_default().insert(*attribute, self.value(*attribute));
            }
            Condition::Is(attribute, value) => {
                item.get_or_insert_default().insert(*attribute, value.clone());
            }
            Condition::AtMost(attribute, most) => {
                let number = most - i64::from(self.one_in(2));
                item.get_or_insert_default().insert(*attribute, Value::Number(number));
            }
            Condition::All(conditions) => {
                for condition in conditions {
                    self.satisfy(condition, item);
                }
            }
            Condition::Any(conditions) => {
                let index = self.below(conditions.len());
                self.satisfy(&conditions[index], item);
            }
        }
    }

    /// Changes one attribute that a condition depends on.
    fn disturb(&mut self, condition: &Condition, item: &mut Option<Item>) {
        let attribute = match condition {
            Condition::Has(attribute)
            | Condition::Lacks(attribute)
            | Condition::Is(attribute, _)
            | Condition::AtMost(attribute, _) => *attribute,
            Condition::All(conditions) | Condition::Any(conditions) => {
                let index = self.below(conditions.len());
                return self.disturb(&conditions[index], item);
            }
        };
        match (self.below(4), item.as_mut().and_then(|item| item.get_mut(&attribute))) {
            (0 | 1, Some(_)) if attribute == A::Task => *item = None,
            (0, Some(_)) => {
                item.as_mut().and_then(|item| item.remove(&attribute));
            }
            (1, Some(Value::Number(number))) => *number += 1,
            _ => {
                item.get_or_insert_default().insert(attribute, self.value(attribute));
            }
        }
    }

    fn value(&mut self, attribute: A) -> Value {
        match attribute {
            A::Task => self.key().to_string().as_str().into(),
            A::State => self.state().into(),
            A::Outcome => self.report().outcome().name().into(),
            A::ProviderTaskId => self.id().as_str().into(),
            A::Owner => self.owner().to_string().as_str().into(),
            A::Endpoint => self.endpoint().as_str().into(),
            A::Fingerprint => self.attempt().fingerprint.as_str().into(),
            A::Report => Value::json(&self.report()),
            A::ReportedBy => self.reporter().name().into(),
            A::Raw => self.raw().expose().into(),
            A::Hint => Value::json(&self.pending_hint()),
            A::Fallback => Value::json(&Fallback { report: self.report(), received_at: self.time() }),
            A::Artifacts => Value::json(&self.artifacts()),
            A::Checkpoints => Value::json(&self.checkpoints()),
            A::Annotations => Value::json(&self.given().annotations),
            A::Unreadable | A::LastError | A::Marker | A::WriteId => self.text().as_str().into(),
            A::RawBytes | A::FencingToken | A::Revision | A::Attempts => self.count().into(),
            A::DueShard => (self.count() % u64::from(DUE_SHARDS)).into(),
            A::RegisteredAt
            | A::InFlightUntil
            | A::DueAt
            | A::ClaimedUntil
            | A::DeadlineAt
            | A::CreatedAt
            | A::SubmittedAt
            | A::CancelRequestedAt
            | A::CancelAcceptedAt
            | A::ReportedAt
            | A::FinishedAt
            | A::ExpiresAt => self.time().into(),
        }
    }

    /// A value of the other type. The table rejects one in a key, of its own or of its index.
    fn mistyped(&mut self, attribute: A) -> Value {
        match self.value(attribute) {
            value if matches!(attribute, A::Task | A::DueAt | A::DueShard) => value,
            Value::Number(number) => Value::Text(number.to_string()),
            Value::Text(_) => Value::Number(self.time().seconds()),
        }
    }

    fn callback_endpoint(&mut self) -> Option<&'static str> {
        self.pick(&[None, Some("/v2/video_generation")])
    }

    fn due(&mut self) -> Due {
        [Due::Kept, Due::Moved][self.below(2)]
    }

    fn cancellation_response(&mut self) -> CancellationResponse {
        [CancellationResponse::Accepted, CancellationResponse::Missing][self.below(2)]
    }

    fn key(&self) -> TaskKey {
        TaskKey::unregistered(Provider::Kling, &self.own_id())
    }

    /// The id that the key is made of: reports and hints that name it have a condition of their own.
    fn own_id(&self) -> String {
        format!("task-{}", self.case)
    }

    fn owner(&mut self) -> TaskKey {
        self.pick(&["kling/one", "kling/two"]).parse().expect("a key")
    }

    fn id(&mut self) -> String {
        let own = self.own_id();
        self.pick(&[own.as_str(), "other", "other+/="]).to_owned()
    }

    fn time(&mut self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + self.pick(&[-90, -1, 0, 1, 90, 1000]))
    }

    fn count(&mut self) -> u64 {
        self.pick(&[0, 1, 2])
    }

    fn state(&mut self) -> State {
        use State::{Archived, Failed, Lost, Pending, Reported, Unattributed};
        self.pick(&[Pending, Pending, Pending, Reported, Reported, Archived, Failed, Lost, Unattributed])
    }

    fn text(&mut self) -> String {
        self.pick(&["", "a", "ü \"quoted\"\n"]).to_owned()
    }

    fn endpoint(&mut self) -> String {
        self.pick(&["/v1", "/v2"]).to_owned()
    }

    fn given(&mut self) -> Given {
        let metadata = self.maybe(|draw| draw.pick(&["{\"user\":7}", "\"é\""]));
        let annotations = Annotations::new(metadata, self.maybe(|_| ("team", "film"))).expect("valid annotations");
        Given { endpoint: self.maybe(Self::endpoint), annotations }
    }

    fn attempt(&mut self) -> SubmissionAttempt {
        SubmissionAttempt { fingerprint: self.pick(&["one", "two"]).to_owned(), in_flight_until: self.time() }
    }

    fn raw(&mut self) -> Raw {
        Raw::new(self.text().as_bytes())
    }

    fn reporter(&mut self) -> Reporter {
        self.pick(&[Reporter::Callback, Reporter::Poll, Reporter::Deadline])
    }

    fn report(&mut self) -> Report {
        let failure = Failure::new(Reason::Unknown, self.one_in(2));
        let source = Source::FileId(self.text());
        let video = Artifact { kind: Kind::Video, source, expires_at: self.maybe(Self::time) };
        match self.below(4) {
            0 => Report::Failed(failure),
            1 => Report::Lost(failure),
            2 => Report::Succeeded { artifacts: vec![], usage: None },
            _ => Report::Succeeded { artifacts: vec![video], usage: None },
        }
    }

    fn accepted(&mut self) -> Accepted {
        let (key, report, raw) = (self.key(), self.report(), self.raw());
        match self.below(4) {
            0 => Accepted::unconfirmed(key, report, raw),
            1 => Accepted::lost(key, Failure::new(Reason::Expired, false)),
            _ => {
                let (id, reporter) = (self.maybe(Self::id), self.reporter());
                Accepted::confirmed(key, id, report, reporter, self.raw())
            }
        }
    }

    fn hint(&mut self) -> Hint {
        Hint {
            key: self.key(),
            provider_task_id: self.maybe(Self::id),
            reason: self.pick(&[HintReason::Unreadable, HintReason::Unsigned]),
            outcome: self.pick(&[None, Some(Outcome::Succeeded), Some(Outcome::Failed)]),
            fallback: self.maybe(Self::report),
            raw: self.raw(),
            endpoint: self.callback_endpoint(),
        }
    }

    fn pending_hint(&mut self) -> PendingHint {
        PendingHint { answered_at: self.maybe(Self::time), ..PendingHint::new(self.time()) }
    }

    fn artifacts(&mut self) -> Vec<StoredArtifact> {
        let stored = StoredArtifact {
            kind: Kind::Video,
            key: self.key().prefix(),
            bytes: self.count(),
            checksum: Checksum { algorithm: "CRC64NVME".to_owned(), value: self.text() },
            content_type: "video/mp4".to_owned(),
        };
        if self.one_in(2) { vec![] } else { vec![stored] }
    }

    fn checkpoints(&mut self) -> Checkpoints {
        let mut checkpoints = Checkpoints::default();
        // One without a failed round leaves them empty.
        let failed_rounds = self.pick(&[0, 1, 2]);
        checkpoints.insert("video", Checkpoint { failed_rounds, ..Checkpoint::default() });
        checkpoints
    }

    fn maybe<T>(&mut self, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(2).then(|| draw(self))
    }

    fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a usize has at most 64 bits");
        usize::try_from(self.next() % end).expect("less than a usize")
    }

    /// `SplitMix64`.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn increments(transition: &Transition, attribute: A) -> bool {
    match &transition.write {
        Write::Update(effects) => effects.contains(&Effect::Increment(attribute)),
        Write::Delete => false,
    }
}

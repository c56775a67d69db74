//! The rules of reelhook, without input or output: no AWS, no sockets, no clock of its own. Time comes in as a
//! [`Timestamp`], bytes come in as bytes, and what is to be done goes out as values, so every rule here can be tested from
//! a file.
//!
//! # Layout
//!
//! | module | answers |
//! |---|---|
//! | [`task`] | how a task is called: provider, id, key, S3 prefix |
//! | [`token`] | which callback URL a task has, and whether a token is right |
//! | [`request`] | what a callback's request consists of, and why one is refused |
//! | [`callback`] | whether a request is authentic, and what it says |
//! | [`report`] | what a provider says about a task, normalised |
//! | [`providers`] | the nine adapters, one file each |
//! | [`record`] | the item of a task, its states and transitions |
//! | [`message`] | what travels through the queue |
//! | [`result`] | `result.json`, and which one may replace which |
//! | [`schedule`] | when to look at a task again |
//! | [`backoff`] | how long to wait before the next attempt |
//! | [`retry_after`] | how long a response asks to wait |
//! | [`expiry`] | when a link dies |
//! | [`transfer`] | how a file is copied: which, in which pieces, when again, what is kept |
//! | [`ssrf`] | which addresses the copier may connect to |
//! | [`settings`] | the one JSON document of provider settings |
//! | [`explain`] | what a body means, for an operator |
//! | [`redacted`] | secrets and signed URLs that cannot be printed |

pub mod backoff;
pub mod callback;
pub mod concurrency;
pub mod expiry;
pub mod explain;
pub mod item;
pub mod message;
pub mod metric;
pub mod poll_schedule;
pub mod provider;
pub mod providers;
pub mod record;
pub mod redacted;
pub mod report;
pub mod request;
pub mod result;
pub mod retry_after;
pub mod settings;
pub mod signature;
pub mod ssrf;
pub mod status_poll;
pub mod submission;
pub mod task;
pub mod time;
pub mod token;
pub mod transfer;
pub mod transition;

pub use provider::Provider;
pub use task::{TaskId, TaskKey};
pub use time::Timestamp;

//! How a file gets from an origin into the bucket, as rules: the copier in `reelhook-aws` carries them out.
//!
//! # Layout
//!
//! | module | says |
//! |---|---|
//! | [`selection`] | which artifacts are copied, under which names, in which order |
//! | [`parts`] | in which pieces a file is copied |
//! | [`ranges`] | what an origin's response means |
//! | [`media`] | whether bytes are media or an error page |
//! | [`container`] | how long a file says it is |
//! | [`stragglers`] | which connection is too slow compared with others |
//! | [`fault`] | what can go wrong |
//! | [`refresh`] | whether the provider has another link |
//! | [`retry`] | what a failure means: again, elsewhere, or no more |
//! | [`checkpoint`] | what is kept of an unfinished copy |
//! | [`outcome`] | what the copies of a task's artifacts come to together |
//!
//! # Words
//!
//! An *attempt* is one request, repeated within seconds. A *round* is what one worker does for a task, from its claim until it
//! settles the task or gives it back; rounds are minutes apart.

pub mod checkpoint;
pub mod container;
pub mod fault;
pub mod media;
pub mod outcome;
pub mod parts;
pub mod ranges;
pub mod refresh;
pub mod retry;
pub mod selection;
pub mod stragglers;

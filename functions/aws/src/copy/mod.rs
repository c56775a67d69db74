//! The copier: any file of a result, from its link into the bucket, complete or not at all.
//!
//! # Layout
//!
//! Each module uses only those below it.
//!
//! | module | has |
//! |---|---|
//! | `copier` | the copier, which all copies of a process share |
//! | `job` | one copy: resume, start, start again |
//! | `multipart` | a file in pieces side by side |
//! | `stream` | a file that comes on one connection |
//! | `single_put` | a small file in one request |
//! | `session` | what a copy works with: its limits in time, writing the last request |
//! | `piece_reader`, `stream_reader` | reading a piece of a known version, or a file in one go |
//! | `origin` | requests to the origin of one copy, tried again |
//! | `halt` | why reading or writing stopped |
//! | `permits` | how many connections there are to an origin |
//! | `incoming` | a response that is being read |
//! | `origin_client` | the HTTP client for links |
//! | `store` | writing to the bucket, once |
//! | `memory_pool` | the memory all copies share |
//! | `stats` | what a copy did, for logs and metrics |
//! | `request` | what is copied, and how a copy fails |
//!
//! The rules behind it (sizes of pieces, what a response means, when to try again, what is kept) are in
//! [`reelhook_core::transfer`].
//!
//! # How a file travels
//!
//! The first request is for the first 8 MiB. An origin that honours it says how long the file is, and the rest is requested
//! in pieces side by side, each pinned to the same version of the file by `If-Range`; from one that does not, the same
//! response is read as one stream. Up to 16 MiB go into the bucket with one request, more as a multipart upload. A piece is
//! held in memory until it is in the bucket, so that either side can be tried again alone. The CRC-64/NVME of the whole file
//! is put together from those of the pieces and sent along with the last request: S3 refuses the object if it does not match.

mod copier;
mod halt;
mod incoming;
mod job;
mod memory_pool;
mod multipart;
mod origin;
mod origin_client;
mod permits;
mod piece_reader;
mod request;
mod session;
mod single_put;
mod stats;
mod store;
mod stream;
mod stream_reader;

pub use self::copier::Copier;
pub use self::request::{CopyFailure, CopyRequest, PriorAttempt};

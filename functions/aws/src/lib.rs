//! Everything of reelhook that talks: the table, the queue, the bucket, the settings and the HTTP clients. SDK types live
//! here and nowhere else; the rules are in `reelhook-core`.
//!
//! # Layout
//!
//! | module | talks to |
//! |---|---|
//! | [`table`] | DynamoDB: one conditional write per transition |
//! | [`queue`] | SQS |
//! | [`bucket`] | S3: `result.json` and its precedence |
//! | [`settings`] | SSM, cached |
//! | [`copy`] | an origin and S3: the files of results |
//! | [`download`] | whoever a link names, guarded |
//! | [`asking`] | the providers' APIs |
//! | [`clients`] | SDK clients, built for a fast start |
//! | [`environment`] | environment variables, read once, named in errors |
//! | [`telemetry`] | logs and metrics |

pub mod asking;
pub mod bucket;
pub mod clients;
pub mod copy;
pub mod download;
pub mod environment;
pub mod queue;
pub mod settings;
pub mod table;
pub mod telemetry;

//! Everything of reelhook that talks: the table, the queue, the bucket, the settings and the HTTP clients. SDK types live
//! here and nowhere else; the rules are in `reelhook-core`.
//!
//! # Layout
//!
//! | module | talks to |
//! |---|---|
//! | [`table`] | `DynamoDB`: renders and applies the transitions |
//! | [`queue`] | SQS |
//! | [`bucket`] | S3: `result.json` and its precedence |
//! | [`settings`] | Secrets Manager, cached |
//! | [`copy`] | an origin and S3: the files of results |
//! | [`ssrf`] | nobody: what a link may connect to |
//! | [`provider_client`] | the providers' APIs |
//! | [`key_sets`] | providers that publish the keys of their signatures |
//! | [`clients`] | SDK clients, built for a fast start, over an HTTP client and a signer of our own |
//! | [`environment`] | environment variables, named in errors |
//! | [`clock`], [`logging`], [`metrics`], [`unique_id`] | time, logs, metrics, ids |

pub mod bucket;
pub mod clients;
pub mod clock;
pub mod copy;
pub mod environment;
mod http_client;
pub mod key_sets;
pub mod logging;
pub mod metrics;
pub mod provider_client;
pub mod queue;
pub mod settings;
mod signer;
pub mod ssrf;
pub mod table;
mod tls;
pub mod unique_id;

//! List prices in US dollars, us-east-1, arm64, read in November 2026 from the pricing page of each service.

/// `DynamoDB` on demand, per write unit.
pub const WRITE_UNIT: f64 = 0.625e-6;
/// `DynamoDB` on demand, per read unit.
pub const READ_UNIT: f64 = 0.125e-6;
/// SQS, per request.
pub const QUEUE_REQUEST: f64 = 0.40e-6;
/// S3, per PUT, POST or LIST.
pub const OBJECT_WRITE: f64 = 5e-6;
/// S3, per GET or HEAD.
pub const OBJECT_READ: f64 = 0.4e-6;
/// `EventBridge`, per event of the bucket: each object is one.
pub const EVENT: f64 = 1e-6;
/// Lambda, per invocation.
pub const INVOCATION: f64 = 0.20e-6;
/// Lambda, per second with a gigabyte of memory.
pub const GB_SECOND: f64 = 13.3334e-6;
/// `CloudWatch` Logs, per byte taken in.
pub const LOG_BYTE: f64 = 0.50e-9;

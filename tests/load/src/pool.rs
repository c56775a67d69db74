//! Several processes of one function, one event at a time each, as Lambda runs them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use local::runtime_api::{Function, InvocationResult};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::Error;

/// A function with a number of processes. An event waits for one that is idle, the longest waiting first.
#[derive(Debug)]
pub struct Pool {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    time_limit: Duration,
    idle: Mutex<Vec<Function>>,
    permits: Semaphore,
}

impl Pool {
    /// Starts the processes. A process that exceeds `time_limit` is killed, and another one takes its place.
    pub async fn start(
        binary: &Path,
        environment: &[(String, String)],
        size: usize,
        time_limit: Duration,
    ) -> Result<Self, Error> {
        let mut idle = Vec::new();
        for _ in 0..size {
            idle.push(Function::start(binary, environment).await?);
        }
        Ok(Self {
            binary: binary.to_owned(),
            environment: environment.to_vec(),
            time_limit,
            idle: Mutex::new(idle),
            permits: Semaphore::new(size),
        })
    }

    /// Invokes one of the processes.
    pub async fn invoke(&self, event: Value) -> Result<InvocationResult, Error> {
        let Ok(_permit) = self.permits.acquire().await else { return Ok(InvocationResult::Exited) };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut function = match idle {
            Some(function) => function,
            None => Function::start(&self.binary, &self.environment).await?,
        };
        let invoked = timeout(self.time_limit, function.invoke(event, self.time_limit)).await;
        let result = invoked.unwrap_or(InvocationResult::Exited);
        if result != InvocationResult::Exited {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(function);
        }
        Ok(result)
    }
}

/// Why the load could not be run or checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The functions or the emulator did not start.
    #[error(transparent)]
    Local(#[from] local::Error),
    /// A system call failed.
    #[error("{0}: {1}")]
    System(&'static str, #[source] std::io::Error),
    /// An HTTP request failed.
    #[error("a request failed: {0}")]
    Http(#[from] reqwest::Error),
    /// An AWS call was refused.
    #[error("{call} returned {status}: {body}")]
    Refused {
        /// The call.
        call: String,
        /// The HTTP status.
        status: u16,
        /// What came with it.
        body: String,
    },
    /// JSON that cannot be read or written.
    #[error("unreadable JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Something that has to be there is not.
    #[error("{0}")]
    Missing(String),
}

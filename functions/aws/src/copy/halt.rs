//! Why reading or writing stopped.

use reelhook_core::transfer::fault::{CopyFault, OriginFault};

use super::store::PartError;

/// Why reading or writing stopped, and what that means for the copy.
#[derive(Debug)]
pub(super) enum Halt {
    /// What was read so far is void: another version of the file, or a stream that broke off.
    Restart(OriginFault),
    /// The upload is not there any more.
    UploadGone,
    /// The copy ends.
    Failed(CopyFault),
}

impl From<PartError> for Halt {
    fn from(error: PartError) -> Self {
        match error {
            PartError::UploadGone => Self::UploadGone,
            PartError::Storage(fault) => Self::Failed(fault),
        }
    }
}

impl From<CopyFault> for Halt {
    fn from(fault: CopyFault) -> Self {
        Self::Failed(fault)
    }
}

impl From<OriginFault> for Halt {
    fn from(fault: OriginFault) -> Self {
        Self::Failed(fault.into())
    }
}

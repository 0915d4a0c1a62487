//! Why a device has no readings.

use std::error::Error;
use std::fmt;

use nvml_wrapper::error::NvmlError;

/// What is reported of a device, once.
#[derive(Debug)]
pub(super) enum ReadError {
    /// It is gone until the machine restarts or the device is reset; it is not asked again.
    Lost(NvmlError),
    /// Nothing that was asked was answered.
    Silent(NvmlError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadError::Lost(_) => {
                "the device is lost and is not asked again; the kernel's log says why"
            }
            ReadError::Silent(_) => "NVML answers nothing that it was asked of the device",
        })
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ReadError::Lost(cause) | ReadError::Silent(cause) => Some(cause),
        }
    }
}

/// Says why NVML cannot be used at all, and what to do about it.
pub(super) fn unusable(error: &NvmlError) -> String {
    let advice = match error {
        NvmlError::LibloadingError(_) => {
            "NVML cannot be opened; it comes with NVIDIA's driver, and into a container with `--gpus all`"
        }
        NvmlError::FailedToLoadSymbol(_) => "the driver's NVML is too old",
        NvmlError::DriverNotLoaded => "NVML is installed and the driver is not loaded",
        NvmlError::LibRmVersionMismatch => {
            "the driver was updated under a running kernel module; restart the machine"
        }
        NvmlError::NoPermission => "this user may not open /dev/nvidiactl",
        _ => "NVML does not start",
    };
    format!("{advice}: {error}")
}

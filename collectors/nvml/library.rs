//! The library of the driver. It may hang, so that it is only called on its own thread.

use std::ffi::OsStr;
use std::path::Path;

use cms_spec::units::{Microjoules, Milliwatts};
use nvml_wrapper::Nvml as Library;
use nvml_wrapper::error::NvmlError;

use super::{Answer, Board};

/// Where the driver puts it; the name without the number is there for compilers only.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// More boards than any machine has.
const BOARDS_MAX: u32 = 64;

/// Looks at all boards, and opens the library for it where it is not open.
pub(super) fn look(path: Option<&Path>, key: &str, library: &mut Option<Library>) -> Answer {
    let opened = match library.take() {
        Some(opened) => opened,
        None => {
            let name = path.map_or(OsStr::new(LIBRARY), Path::as_os_str);
            match Library::builder().lib_path(name).init() {
                Ok(opened) => opened,
                Err(error) => return not_opened(path, key, &error),
            }
        }
    };
    match boards(&opened) {
        Ok(boards) if boards.is_empty() => Answer::Absent("the driver knows no GPU".to_owned()),
        Ok(boards) => {
            *library = Some(opened);
            Answer::Boards(boards)
        }
        // Without the handle, the next look opens it anew.
        Err(error) => Answer::Failed(format!("the driver answers: {error}")),
    }
}

fn not_opened(path: Option<&Path>, key: &str, error: &NvmlError) -> Answer {
    match error {
        NvmlError::LibloadingError(_) if path.is_none() => Answer::Failed(format!(
            "the NVIDIA driver is there and {LIBRARY} is not: install the driver's libraries, or give the \
             path as {key}"
        )),
        NvmlError::DriverNotLoaded => {
            Answer::Absent("the NVIDIA driver is installed and not loaded".to_owned())
        }
        NvmlError::NoPermission => Answer::Failed(
            "may not use the NVIDIA driver: give the agent's user access to /dev/nvidiactl and /dev/nvidia*"
                .to_owned(),
        ),
        error => Answer::Failed(format!("the NVIDIA driver cannot be used: {error}")),
    }
}

fn boards(library: &Library) -> Result<Vec<Board>, NvmlError> {
    let count = library.device_count()?.min(BOARDS_MAX);
    let mut boards = Vec::new();
    for index in 0..count {
        let device = library.device_by_index(index)?;
        boards.push(Board {
            uuid: device.uuid()?,
            energy: told(device.total_energy_consumption())?
                .map(|millijoules| Microjoules(millijoules.saturating_mul(1000))),
            power: told(device.power_usage())?.map(|milliwatts| Milliwatts(milliwatts.into())),
        });
    }
    Ok(boards)
}

/// What a board does not support it does not tell; everything else is an error.
fn told<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(
            NvmlError::NotSupported
            | NvmlError::NoPermission
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_),
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

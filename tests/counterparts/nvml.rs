//! The rung `nvml` against a library with the driver's interface (`nvml.c`), loaded as the real one is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::lab::{here, printed, program};

/// A machine with GPUs, as the library tells.
struct Rig {
    directory: tempfile::TempDir,
}

impl Rig {
    fn new(gpus: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rig = Self { directory };
        fs::write(rig.path("gpus"), gpus).unwrap();
        let library = rig.path("libnvidia-ml.so.1");
        compile(&rig.path("gpus"), &library);
        let config = format!(
            "company_id = \"acme-corp\"\n\
             dashboard.api_key = {{ env = \"KEY\" }}\n\
             store.path = {store:?}\n\
             [compute.power]\n\
             sources = [\"nvml\"]\n\
             nvml.path = {library:?}\n",
            store = rig.path("store"),
        );
        fs::write(rig.path("agent.toml"), config).unwrap();
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> String {
        let config = self.path("agent.toml");
        let config = Path::to_str(&config).unwrap();
        let arguments = [&["--config", config], arguments].concat();
        printed(&program(&arguments))
    }

    /// Power and its provenance as they would be sent.
    fn power(&self) -> (f64, Value) {
        let body: Value = serde_json::from_str(&self.run(&["preview", "ghost-compute"])).unwrap();
        let watts = &body["data"]["ghost_compute"]["instance_inventory"][0]["power_draw_watts"];
        let is_power = |entry: &&Value| entry["figure"] == "instance_inventory[].power_draw_watts";
        let entries = body["provenance"].as_array().unwrap();
        let entry = entries.iter().find(is_power).unwrap();
        (watts.as_f64().unwrap(), entry.clone())
    }
}

/// Makes a library that answers from a file.
pub(crate) fn compile(state: &Path, library: &Path) {
    let state = format!("-DSTATE=\"{}\"", state.display());
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", &state, "-o"])
        .arg(library)
        .arg(here().join("nvml.c"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "cc: {said}");
}

#[test]
fn the_counters_of_two_gpus_are_what_the_machine_draws() {
    let rig = Rig::new("GPU-a 300 310\nGPU-b 120 118\n");
    let (watts, entry) = rig.power();
    assert!((300.0..560.0).contains(&watts), "{watts}");
    assert_eq!(entry["method"], "nvml-energy/1 gpu_board", "{entry}");
    assert_eq!(entry["confidence"], "B", "{entry}");
    assert!(entry.get("fallback").is_none(), "{entry}");
}

#[test]
fn a_gpu_without_a_counter_is_taken_by_its_power_and_a_silent_one_is_said() {
    let rig = Rig::new("GPU-old - 75\nMIG-1 - -\n");
    let (watts, entry) = rig.power();
    assert_eq!(watts, 75.0, "{entry}");
    assert_eq!(entry["method"], "nvml-power/1 gpu_board", "{entry}");
    let note = entry["note"].as_str().unwrap();
    assert!(note.starts_with("1 of 2 GPUs"), "{entry}");
}

#[test]
fn no_driver_no_gpu_and_only_partitions_are_absent() {
    for (gpus, why) in [
        ("unloaded\n", "is installed and not loaded"),
        ("", "knows no GPU"),
        ("MIG-1 - -\nMIG-2 - -\n", "none of the 2 GPUs"),
    ] {
        let rig = Rig::new(gpus);
        let (watts, entry) = rig.power();
        assert_eq!((watts, &entry["quality"]), (100.0, &"default".into()));
        let reason = entry["fallback"]["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("nvml: ") && reason.contains(why),
            "{reason}"
        );
    }
}

#[test]
fn a_driver_that_hangs_stops_nothing_else() {
    let rig = Rig::new("hang\n");
    let (_, entry) = rig.power();
    assert_ne!(entry["source"], "nvml", "{entry}");
}

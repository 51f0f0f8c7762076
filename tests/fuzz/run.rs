//! One program for every target under libFuzzer: the program's own name says which target it is.

#![no_main]

mod targets;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let program = std::env::current_exe().expect("a program has a name");
    let name = program
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let found = targets::TARGETS.iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("no target is called {name}"))
        .1
});

fuzz_target!(|data: &[u8]| TARGET(data));

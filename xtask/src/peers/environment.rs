//! What the figures depend on: the machine, and the limits of each library.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use xshell::{Shell, cmd};

/// The machine, by name.
pub(super) fn describe(sh: &Shell) -> Value {
    let file = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let cpu_info = file("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpu_info.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(['\t', ' ', ':']).to_owned())
    };
    let memory = file("/proc/meminfo").lines().next().unwrap_or_default().replace("MemTotal:", "");
    json!({
        "cpu": field("model name"),
        "family and model": format!("{} {}", field("cpu family").unwrap_or_default(), field("model\t").unwrap_or_default()),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": memory.trim(),
        "kernel": file("/proc/sys/kernel/osrelease"),
        "load before": file("/proc/loadavg"),
        "socket buffer limits": format!("{} send, {} receive bytes", file("/proc/sys/net/core/wmem_max"), file("/proc/sys/net/core/rmem_max")),
        "rustc": cmd!(sh, "rustc --version").quiet().ignore_stderr().read().unwrap_or_default(),
        "commit": cmd!(sh, "git rev-parse --short HEAD").quiet().ignore_stderr().read().unwrap_or_default(),
    })
}

/// All of it as lists.
pub(super) fn markdown(
    environment: &Value,
    versions: &[(&str, String)],
    limits: &BTreeMap<String, BTreeMap<String, Value>>,
) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut out = String::from("### Machine and limits\n\n");
    for (name, value) in environment.as_object().into_iter().flatten() {
        out.push_str(&format!("- {name}: {}\n", plain(value)));
    }
    for (name, version) in versions {
        out.push_str(&format!("- **{name}**: {version}"));
        // Limits that are the same in all works are told once.
        let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (work, limits) in limits.get(*name).into_iter().flatten() {
            for (limit, value) in limits.as_object().into_iter().flatten() {
                let values = told.entry(limit).or_default();
                let value = plain(value);
                if !values.iter().any(|told| *told == value || told.starts_with(&format!("{value} ("))) {
                    values.push(if values.is_empty() { value } else { format!("{value} ({work})") });
                }
            }
        }
        for (limit, values) in told {
            out.push_str(&format!("; {limit}: {}", values.join(", ")));
        }
        out.push('\n');
    }
    out
}

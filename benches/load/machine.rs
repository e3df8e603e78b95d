//! Where the figures come from.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::figures::median;

/// What is to be known of the machine, in one line, when `directory` is where the databases are.
pub(crate) fn description(directory: &Path) -> String {
    let cpu = field("/proc/cpuinfo", "model name", ':');
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let system = field("/etc/os-release", "PRETTY_NAME", '=');
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let mut text = format!(
        "{}, {cores} cores",
        cpu.unwrap_or("unknown processor".into())
    );
    if let Some(memory) = field("/proc/meminfo", "MemTotal", ':') {
        let kib = memory.trim_end_matches(" kB").parse().unwrap_or(0.0_f64);
        let _ = write!(text, ", {:.0} GiB", kib / 1_048_576.0);
    }
    let _ = write!(
        text,
        "; {}, Linux {}; load average {} before; databases on {}, where a write of 4 KiB is durable after {:.2} ms",
        system.unwrap_or("unknown system".into()).trim_matches('"'),
        kernel.trim(),
        load.split(' ').next().unwrap_or_default(),
        file_system(directory).unwrap_or("an unknown file system".into()),
        durable_write_ms(directory)
    );
    text
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What stands behind `name` and `separator` in a line of the file at `path`.
pub(crate) fn field(path: &str, name: &str, separator: char) -> Option<String> {
    let text = read(path);
    let mut fields = text.lines().filter_map(|line| line.split_once(separator));
    let (_, value) = fields.find(|(found, _)| found.trim() == name)?;
    Some(value.trim().to_owned())
}

/// The type of the file system that `directory` is on.
fn file_system(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = read("/proc/self/mounts");
    // Of mounts at the same place the last one counts.
    let best = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((Path::new(words.next()?), words.next()?))
        })
        .filter(|(place, _)| directory.starts_with(place))
        .max_by_key(|(place, _)| place.components().count())?;
    Some(best.1.to_owned())
}

fn durable_write_ms(directory: &Path) -> f64 {
    let mut file = File::create(directory.join("durable")).expect("a writable directory");
    median((0..50).map(|_| {
        let begin = Instant::now();
        file.write_all(&[1; 4_096]).expect("room");
        file.sync_data().expect("a disk");
        begin.elapsed().as_secs_f64() * 1_000.0
    }))
}

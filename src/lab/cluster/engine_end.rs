//! The processes of the private PostgreSQL, and their end.

use std::fs;
use std::path::Path;

use rustix::process::Pid;

/// Ends the engine. Its processes are those in the process group of the program that was started, its children, and
/// those whose working folder is the data folder. A user's shell or editor may be in that folder as well, so only
/// programs of PostgreSQL count. A postmaster that ends by itself also removes its segment of shared memory. The
/// segment of a killed postmaster is found in its file.
///
/// The engine that `initdb` runs cannot be told to keep its shared memory in the folder, and if it is killed, its files
/// stay in /dev/shm. `initdb` is therefore asked to end after its current step, by TERM, because it ignores QUIT during
/// some steps. If that takes too long, it is killed, and the files that its processes have mapped are removed. No other
/// file is, because it may belong to another PostgreSQL.
pub(super) const END: &str = r#"ours() {
  for process in /proc/[0-9]*; do
    read -r _ name _ parent its_group _ < "$process/stat" || continue
    [ "$name" = "(postgres)" ] || [ "$name" = "(initdb)" ] || continue
    if [ "$its_group" = "$group" ] || [ "$parent" = "$group" ] || [ "$process/cwd" -ef "$1/pg/data" ]; then
      echo "${process#/proc/}"
    fi
  done
}
kill -s CONT "$group" $(ours "$1")
how=QUIT
[ "$(cat "/proc/$group/comm")" = initdb ] && how=TERM
kill -s "$how" "$group"
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  kill -0 "$group" || break
  sleep 0.1
done
kill -s STOP -- "-$group"
all=$(ours "$1")
mapped=$(for process in $all; do sed -n 's|^.* \(/dev/shm/PostgreSQL\.[0-9]*\)$|\1|p' "/proc/$process/maps"; done)
kill -s KILL -- "-$group" $all
[ -n "$mapped" ] && rm -f $mapped
[ -e "$1/pg/data/postmaster.pid" ] && ipcrm -m "$(sed -n '7s/.* //p' "$1/pg/data/postmaster.pid")""#;

/// All processes of the engine whose first process and data folder are these. On a system without /proc, only the first
/// one is found.
pub(super) fn processes(first: u32, data: &Path) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = entries.filter_map(|entry| {
        let number: i32 = entry.file_name().to_str()?.parse().ok()?;
        // `PID (NAME) STATE PARENT …`
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.split_once(" (postgres) ")?.1.split(' ').nth(1)?.parse();
        // The working folder of another user's process can be read only with a capability.
        let is_ours =
            parent == Ok(first) || fs::read_link(entry.path().join("cwd")).is_ok_and(|it| it == data);
        Pid::from_raw(number).filter(|_| is_ours)
    });
    let first = i32::try_from(first).ok().and_then(Pid::from_raw);
    first.into_iter().chain(children.filter(|it| Some(*it) != first)).collect()
}

use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::thread;

use super::access::Access;
use super::claimed::Claimed;
use super::clash::{Use, same_file};
use super::output::{Output, PreparedOutput};
use super::whole::{Put, Removal, ReservedFile, WholeFile};
use super::*;

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Desk {
        Desk(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(self, name: &str, text: &str) -> Desk {
        fs::write(self.at(name), text).unwrap();
        self
    }

    fn fifo(&self, name: &str) -> PathBuf {
        assert!(Command::new("mkfifo").arg(self.at(name)).status().unwrap().success());
        self.at(name)
    }

    /// A node of the same device as `/dev/null`, if this user may create one.
    fn device(&self, name: &str) -> Option<PathBuf> {
        let made = Command::new("mknod").arg(self.at(name)).args(["c", "1", "3"]).output().unwrap();
        made.status.success().then(|| self.at(name))
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap().map(|it| it.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<Put, FileError> {
    ReservedFile::at(path, Access::Secret)?.put(bytes)
}

fn state(path: &Path) -> Result<Put, FileError> {
    put(path, b"state")
}

fn output(path: &Path) -> Result<Output, FileError> {
    PreparedOutput::at(path)?.begin()
}

#[test]
fn a_file_is_replaced_as_a_whole_and_removed() {
    let desk = Desk::new().with("file", "old");
    for name in ["file", "new"] {
        let file = state(&desk.at(name)).unwrap();
        assert_eq!(fs::read(desk.at(name)).unwrap(), b"state");
        assert_eq!(fs::metadata(desk.at(name)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file.remove().unwrap(), Removal::Removed);
    }
    assert_eq!(desk.names(), [""; 0]);
}

#[test]
fn a_file_of_another_process_is_never_removed() {
    let desk = Desk::new();
    let ours = state(&desk.at("file")).unwrap();
    let theirs = put(&desk.at("file"), b"theirs").unwrap();
    assert_eq!(ours.remove().unwrap(), Removal::NotOurs);
    assert_eq!(fs::read(desk.at("file")).unwrap(), b"theirs");
    assert_eq!(theirs.remove().unwrap(), Removal::Removed);
    assert_eq!(theirs.remove().unwrap(), Removal::NotOurs, "the file has already been removed");
}

#[test]
fn a_link_is_kept_and_its_target_is_written() {
    let desk = Desk::new().with("real", "old");
    symlink("real", desk.at("link")).unwrap();
    symlink(desk.at("link"), desk.at("link to link")).unwrap();
    symlink("nothing yet", desk.at("dangling")).unwrap();
    for (link, target) in [("link", "real"), ("link to link", "real"), ("dangling", "nothing yet")] {
        let file = state(&desk.at(link)).unwrap();
        assert_eq!(fs::read(desk.at(target)).unwrap(), b"state", "{link}");
        assert_eq!(file.remove().unwrap(), Removal::Removed);
        assert!(fs::symlink_metadata(desk.at(link)).unwrap().is_symlink(), "{link}");
    }
    assert_eq!(desk.names(), ["dangling", "link", "link to link"]);
}

#[test]
fn a_link_in_a_folder_where_every_user_can_create_one_is_not_followed() {
    let desk = Desk::new().with("real", "old");
    fs::create_dir(desk.at("shared")).unwrap();
    fs::set_permissions(desk.at("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    symlink(desk.at("real"), desk.at("shared/link")).unwrap();
    let link = desk.at("shared/link");
    assert!(matches!(state(&link), Err(FileError::SharedLink)));
    assert!(matches!(output(&link), Err(FileError::SharedLink)));
    assert!(matches!(check_database(&link), Err(FileError::SharedLink)));
    assert!(WholeFile::at("--report", &link).unwrap_err().to_string().starts_with("cannot write --report /"));
    assert_eq!(fs::read(desk.at("real")).unwrap(), b"old");
}

#[test]
fn a_link_anywhere_in_a_path_through_a_shared_folder_is_not_followed() {
    let desk = Desk::new();
    for (name, mode, is_followed) in
        [("shared", 0o1777, false), ("sticky", 0o1755, true), ("open", 0o777, true)]
    {
        fs::create_dir(desk.at(name)).unwrap();
        fs::create_dir_all(desk.at("mine")).unwrap();
        fs::set_permissions(desk.at(name), fs::Permissions::from_mode(mode)).unwrap();
        symlink(desk.at("mine"), desk.at(name).join("link")).unwrap();
        symlink(desk.at(name).join("link"), desk.at("mine").join(name)).unwrap();
        for path in ["link/state", "link/../mine/state", "../mine/NAME/state"] {
            let path = desk.at(name).join(path.replace("NAME", name));
            let files = [state(&path).map(drop), output(&path).map(drop), check_database(&path)];
            for file in files {
                match file {
                    Err(FileError::SharedLink) => assert!(!is_followed, "{path:?}"),
                    other => assert!(other.is_ok() && is_followed, "{path:?}: {other:?}"),
                }
            }
            assert_eq!(desk.at("mine/state").exists(), is_followed, "{path:?}");
        }
        fs::remove_dir_all(desk.at("mine")).unwrap();
    }
}

#[test]
fn a_file_gets_the_mode_and_owner_of_the_one_that_it_replaces() {
    let desk = Desk::new().with("report", "old").with("state", "old");
    let is_root = rustix::process::geteuid().is_root();
    let (us, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owner = if is_root { (1000, 1000) } else { (us, group) };
    for name in ["report", "state"] {
        std::os::unix::fs::chown(desk.at(name), Some(owner.0), Some(owner.1)).unwrap();
        fs::set_permissions(desk.at(name), fs::Permissions::from_mode(0o664)).unwrap();
    }
    WholeFile::at("--report", &desk.at("report")).unwrap().write(b"new").unwrap();
    state(&desk.at("state")).unwrap();
    let of = |name: &str| {
        let there = fs::metadata(desk.at(name)).unwrap();
        (there.mode() & 0o777, (there.uid(), there.gid()))
    };
    assert_eq!(of("report"), (0o664, owner));
    // The owner of the previous file must not be able to read the token.
    assert_eq!(of("state"), (0o600, (us, group)));
}

#[test]
fn a_file_that_is_a_mount_point_is_written_in_place() {
    let desk = Desk::new().with("outside", "an old text that is longer").with("inside", "");
    let mount = |args: &[&str]| Command::new("mount").args(args).stderr(Stdio::null()).status();
    let (outside, inside) = (desk.at("outside"), desk.at("inside"));
    if !mount(&["--bind", outside.to_str().unwrap(), inside.to_str().unwrap()]).is_ok_and(|it| it.success()) {
        eprintln!("skipped: this user may not mount a file");
        return;
    }
    WholeFile::at("--report", &inside).unwrap().write(b"report").unwrap();
    let report = fs::read(&outside).unwrap();
    let file = state(&inside).unwrap();
    let (written, mode) = (fs::read(&outside).unwrap(), fs::metadata(&outside).unwrap().mode() & 0o777);
    let removed = file.remove().unwrap();
    let (left, names) = (fs::read(&outside).unwrap(), desk.names());
    let other = state(&inside).unwrap();
    fs::write(&outside, "of another server").unwrap();
    let not_ours = other.remove().unwrap();
    assert!(Command::new("umount").arg(&inside).status().unwrap().success());
    assert_eq!((report.as_slice(), written.as_slice(), mode), (&b"report"[..], &b"state"[..], 0o600));
    assert_eq!((removed, left.as_slice(), not_ours), (Removal::Emptied, &b""[..], Removal::NotOurs));
    assert_eq!(names, ["inside", "outside"]);
}

#[test]
fn a_prepared_output_changes_nothing_before_it_begins() {
    let desk = Desk::new().with("old", "old");
    let (old, new) =
        (PreparedOutput::at(&desk.at("old")).unwrap(), PreparedOutput::at(&desk.at("new")).unwrap());
    assert_eq!(
        (fs::read(desk.at("old")).unwrap().as_slice(), desk.names()),
        (&b"old"[..], vec!["old".into()])
    );
    for (prepared, name) in [(old, "old"), (new, "new")] {
        prepared.begin().unwrap().write_all(b"it", || false).unwrap();
        assert_eq!(fs::read(desk.at(name)).unwrap(), b"it");
    }
}

#[test]
fn a_claimed_database_is_removed_unless_it_existed_before_or_is_in_use() {
    let desk = Desk::new().with("old", "");
    for (name, side_file, stays) in
        [("new", None, false), ("old", None, true), ("used", Some("used-wal"), true)]
    {
        let claimed = Claimed::at(&desk.at(name));
        if let Some(side_file) = side_file {
            fs::write(desk.at(side_file), "").unwrap();
        }
        claimed.remove();
        assert_eq!(desk.at(name).exists(), stays, "{name}");
    }
    let replaced = Claimed::at(&desk.at("replaced"));
    fs::write(desk.at("other"), "").unwrap();
    fs::rename(desk.at("other"), desk.at("replaced")).unwrap();
    replaced.remove();
    assert!(desk.at("replaced").exists(), "it is the file of another process");
    Claimed::at(&desk.at("missing/database")).remove();
}

#[test]
fn a_write_to_a_descriptor_of_this_process_follows_earlier_output() {
    let desk = Desk::new();
    for (name, is_appended) in [("appended", true), ("written", false)] {
        fs::write(desk.at(name), if is_appended { "before " } else { "" }).unwrap();
        let mut options = OpenOptions::new();
        let mut file = options.append(is_appended).write(true).open(desk.at(name)).unwrap();
        if !is_appended {
            io::Write::write_all(&mut file, b"before ").unwrap();
        }
        for folder in ["/dev/fd", "/proc/self/fd"] {
            let path = Path::new(folder).join(file.as_raw_fd().to_string());
            if path.exists() {
                WholeFile::at("--svg", &path).unwrap().write(b"picture ").unwrap();
                output(&path).unwrap().write_all(b"trace ", || false).unwrap();
            }
        }
        io::Write::write_all(&mut file, b"after").unwrap();
        let text = fs::read_to_string(desk.at(name)).unwrap();
        assert_eq!(text.replace("picture trace ", ""), "before after", "{name}: {text}");
        assert_ne!(text, "before after", "{name}");
    }
    let file = File::open(desk.at("written")).unwrap();
    let path = PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()));
    assert!(matches!(PreparedOutput::at(&path), Err(FileError::ReadOnly)));
}

#[test]
fn a_socket_is_written_to_by_its_descriptor_and_refused_by_its_path() {
    let desk = Desk::new();
    let _listener = std::os::unix::net::UnixListener::bind(desk.at("socket")).unwrap();
    assert!(matches!(state(&desk.at("socket")), Err(FileError::Socket)));
    assert!(matches!(output(&desk.at("socket")), Err(FileError::Socket)));
    let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let path = PathBuf::from(format!("/dev/fd/{}", writer.as_raw_fd()));
    // This is more than a socket can buffer, so the writer waits for its reader.
    let bytes = vec![b'x'; 1 << 20];
    let read = thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes.len()
    });
    WholeFile::at("--svg", &path).unwrap().write(&bytes).unwrap();
    drop(writer);
    assert_eq!(read.join().unwrap(), bytes.len());

    // The wait for a reader that reads nothing is bounded, although the socket is blocking.
    let (_reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let path = PathBuf::from(format!("/dev/fd/{}", writer.as_raw_fd()));
    let written = output(&path).unwrap().write_all(&bytes, || false);
    assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_pipe_without_data_is_reported_after_the_time_limit() {
    let desk = Desk::new();
    let (silent, unended) = (desk.fifo("silent"), desk.fifo("unended"));
    let open = |path| OpenOptions::new().read(true).write(true).open(path).unwrap();
    let _silent = open(&silent);
    let mut writer = open(&unended);
    io::Write::write_all(&mut writer, b"text").unwrap();
    let waits = [silent, unended].map(|path| thread::spawn(move || read_small(&path)));
    let [silent, unended] = waits.map(|it| it.join().unwrap().unwrap_err().to_string());
    assert_eq!(silent, "no data arrived through it within 5s");
    assert_eq!(unended, "it did not end within 5s");
}

#[test]
fn a_device_is_written_to_and_not_replaced() {
    let desk = Desk::new();
    let Some(device) = desk.device("null") else { return };
    assert_eq!(state(&device).unwrap().remove().unwrap(), Removal::NotOurs);
    WholeFile::at("--report", &device).unwrap().write(b"report").unwrap();
    let mut trace = output(&device).unwrap();
    trace.write_all(b"trace", || false).unwrap();
    trace.cut(0).unwrap();
    assert!(matches!(check_database(&device), Err(FileError::NotAFile)));
    assert!(fs::metadata(&device).unwrap().file_type().is_char_device());
}

#[test]
fn a_pipe_without_a_reader_is_refused_immediately() {
    let desk = Desk::new();
    let fifo = desk.fifo("fifo");
    assert!(matches!(state(&fifo), Err(FileError::Unread)));
    assert!(matches!(output(&fifo), Err(FileError::Unread)));
    assert!(
        WholeFile::at("--svg", &fifo).is_err_and(|it| it.to_string().contains("nothing reads this pipe"))
    );
    assert!(matches!(check_database(&fifo), Err(FileError::NotAFile)));
    assert_eq!(read_small(&fifo).unwrap(), "");
    assert_eq!(desk.names(), ["fifo"]);
}

#[test]
fn a_pipe_with_a_reader_is_written_to_and_not_replaced() {
    let desk = Desk::new();
    let fifo = desk.fifo("fifo");
    let read = || {
        let fifo = fifo.clone();
        let reader =
            OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(fifo).unwrap();
        move || {
            let (mut text, mut reader) = (String::new(), reader);
            while text.is_empty() || !text.ends_with('.') {
                wait_for(&reader, PollFlags::IN, Duration::from_millis(100));
                let mut bytes = [0; 4096];
                if let Ok(read) = reader.read(&mut bytes) {
                    text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
                }
            }
            text
        }
    };
    let reader = read();
    let file = put(&fifo, b"state.").unwrap();
    assert_eq!(reader(), "state.");
    assert_eq!(file.remove().unwrap(), Removal::NotOurs);
    // This is more than a pipe can buffer, so the writer waits for its reader.
    let text = "x".repeat(300_000) + ".";
    let reader = read();
    let file = WholeFile::at("--svg", &fifo).unwrap();
    let reader = thread::spawn(reader);
    file.write(text.as_bytes()).unwrap();
    assert_eq!(reader.join().unwrap().len(), text.len());
    assert_eq!(desk.names(), ["fifo"]);
}

#[test]
fn a_write_does_not_wait_forever_for_a_reader_that_stops_reading() {
    let desk = Desk::new();
    let fifo = desk.fifo("fifo");
    let _reader =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(&fifo).unwrap();
    let mut asked = 0;
    let written = output(&fifo).unwrap().write_all(&[0; 1 << 20], || {
        asked += 1;
        asked < 3
    });
    assert_eq!((written.unwrap_err().kind(), asked), (ErrorKind::TimedOut, 3));
}

#[test]
fn a_folder_and_a_database_are_refused() {
    let desk = Desk::new().with("database", "SQLite format 3\0 and more").with("file", "");
    fs::create_dir(desk.at("folder")).unwrap();
    for (name, why) in [
        ("folder", "it is a folder"),
        ("new/", "it is a folder"),
        ("database", "it is a SQLite database"),
        ("file/below", "not a directory"),
    ] {
        for said in [
            state(&desk.at(name)).unwrap_err().to_string(),
            output(&desk.at(name)).unwrap_err().to_string(),
            WholeFile::at("--report", &desk.at(name)).unwrap_err().to_string(),
        ] {
            let said = said.replace(desk.0.path().to_str().unwrap(), "");
            assert!(said.contains(why) && !said.contains(".tmp"), "{name}: {said}");
        }
    }
    let missing = desk.at("missing/file");
    for error in [state(&missing).unwrap_err(), output(&missing).unwrap_err()] {
        assert!(error.to_string().contains("no such file") && !error.to_string().contains(".tmp"), "{error}");
    }
    let said = WholeFile::at("--svg", &missing).unwrap_err().to_string();
    let wanted = format!(
        "cannot write --svg {}: no such directory; give a path that can be written",
        missing.display()
    );
    assert_eq!(said, wanted);
    assert_eq!(desk.names(), ["database", "file", "folder"]);
}

#[test]
fn a_file_too_large_for_a_state_file_is_not_read_to_its_end() {
    let desk = Desk::new().with("long", &"x".repeat(70_000)).with("short", "pid: 1\n");
    assert!(matches!(read_small(Path::new("/dev/zero")), Err(FileError::TooLong)));
    assert!(matches!(read_small(&desk.at("long")), Err(FileError::TooLong)));
    assert!(matches!(read_small(desk.0.path()), Err(FileError::Folder)));
    assert_eq!(read_small(&desk.at("short")).unwrap(), "pid: 1\n");
}

#[test]
fn two_flags_that_lead_to_one_file_are_found_under_any_name() {
    let desk = Desk::new().with("there", "").with("view.html", "");
    fs::create_dir(desk.at("views")).unwrap();
    fs::write(desk.at("views/page.html"), "").unwrap();
    fs::hard_link(desk.at("there"), desk.at("hard")).unwrap();
    symlink("there", desk.at("link")).unwrap();
    symlink("new", desk.at("dangling")).unwrap();
    symlink(desk.0.path(), desk.at("folder")).unwrap();
    symlink("there-wal", desk.at("to side file")).unwrap();
    for (one, other, is_same) in [
        ("there", "there", true),
        ("there", "link", true),
        ("there", "hard", true),
        ("new", "dangling", true),
        ("new", "folder/new", true),
        ("new", "./new", true),
        ("there", "there-wal", true),
        ("link", "there-shm", true),
        ("dangling", "new-journal", true),
        ("there", "to side file", true),
        ("new", "there", false),
        ("link", "link-wal", false),
        ("no/folder", "no/other", false),
    ] {
        let (database, file) = (desk.at(one), desk.at(other));
        let said = same_file(&[
            ("--a", Use::Database, Some(&database)),
            ("--b", Use::File, None),
            ("--c", Use::File, Some(&file)),
        ]);
        assert_eq!(said.is_some(), is_same, "{one:?} and {other:?}: {said:?}");
        assert!(said.is_none_or(|said| said.starts_with("--a and --c name the same file")));
    }
    for (file, is_same) in [("views/page.html", true), ("views/new", false), ("view.html", false)] {
        let (views, file) = (desk.at("views"), desk.at(file));
        let said = same_file(&[("--views", Use::Views, Some(&views)), ("--c", Use::File, Some(&file))]);
        assert_eq!(said.is_some(), is_same, "{file:?}");
    }
    let fifo = desk.fifo("fifo");
    for stream in [Path::new("/dev/null"), &fifo] {
        let both = [("--a", Use::File, Some(stream)), ("--b", Use::File, Some(stream))];
        assert_eq!(same_file(&both), None, "a write to a stream replaces nothing");
    }
    let file = File::open(desk.at("there")).unwrap();
    let (path, open) = (desk.at("there"), PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd())));
    assert!(same_file(&[("--a", Use::File, Some(&path)), ("--b", Use::File, Some(&open))]).is_some());
    let relative = [("--a", Use::File, Some(Path::new("new"))), ("--b", Use::File, Some(Path::new("./new")))];
    assert!(same_file(&relative).is_some());
}

//! nginx 1.22, as shipped by Debian, in front of `--live rails`. By default, nginx before 1.29.7 speaks HTTP/1.0 to
//! its upstream server. Each stream then ends after its first event and leaves an orphaned action running.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::common::{Server, open_stream, program, wait_for};
use ninetabs::lab::tab::{Settings, Tab};
use serde_json::json as object;

/// The directives that `docs/your-server.md` recommends.
const HTTP_1_1: &str = "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;";

/// A running nginx. It is killed when dropped.
struct Nginx {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Nginx {
    /// Starts nginx in front of `app`, with `directives` in its `location` block. Prints a message and returns `None`
    /// if nginx is not installed.
    fn start(app: SocketAddr, directives: &str) -> Option<Nginx> {
        let nginx = program("nginx").or_else(|| {
            // Debian installs nginx in a folder that only root has in its PATH.
            let sbin = std::path::PathBuf::from("/usr/sbin/nginx");
            sbin.is_file().then_some(sbin)
        })?;
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let place = folder.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String =
            temporary.iter().map(|it| format!("{it}_temp_path {place}/{it};\n")).collect();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log {place}/log;\nevents {{}}\nhttp {{\n\
             access_log off;\n{temporary}server {{\nlisten {address};\nlocation / {{\nproxy_pass http://{app};\n\
             {directives}\n}}\n}}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new(nginx);
        command.arg("-e").arg(folder.path().join("log")).arg("-c").arg(&file).arg("-p").arg(folder.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut nginx = Nginx { child, address, folder };
        wait_for("nginx", || {
            let status = nginx.child.try_wait().unwrap();
            let log = || fs::read_to_string(nginx.folder.path().join("log")).unwrap_or_default();
            assert!(status.is_none(), "nginx ended with {status:?}: {}", log());
            std::net::TcpStream::connect(address).ok()
        });
        Some(nginx)
    }

    fn event_source(&self) -> Tab {
        let url = format!("http://{}/models/live_stream?tab=1", self.address);
        Tab::open(&url, Settings { name: "tab 1".into(), ..Settings::default() }).unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn behind_nginx_with_default_settings_each_reconnect_of_a_tab_leaves_an_orphaned_action() {
    let flags = ["--live", "rails", "--update-rate", "200ms", "--retry", "0.1", "--db-lease", "query"];
    let server = Server::start(&flags);
    let Some(nginx) = Nginx::start(server.app, "") else { return };
    let tab = nginx.event_source();
    server.wait_for_stats("ten orphaned actions", |stats| {
        stats["live_threads"]["orphaned"].as_u64() >= Some(10)
    });
    tab.close();
    let stats = server.wait_for_stats("idle pool", |stats| {
        stats["busy_threads"] == 0 && stats["live_threads"]["attached"] == 0
    });
    // Every stream that was opened left an orphaned action, and none of these actions has ended.
    assert_eq!(stats["live_threads"]["orphaned"], stats["streams"]["opened"], "{stats}");
    assert_eq!(stats["streams"]["disconnected"], 0, "{stats}");
}

#[test]
fn behind_nginx_with_http_1_1_a_tab_has_one_stream_and_closing_it_ends_the_action() {
    let flags = ["--live", "rails", "--update-rate", "100ms", "--retry", "0.1"];
    let server = Server::start(&flags);
    let Some(nginx) = Nginx::start(server.app, HTTP_1_1) else { return };
    let stream = open_stream(nginx.address);
    let stats =
        server.wait_for_stats("stream with many writes", |stats| stats["queries"].as_u64() > Some(10));
    assert_eq!(stats["live_threads"], object!({ "running": 1, "attached": 1, "orphaned": 0 }));
    drop(stream);
    let stats = server.wait_for_stats("end of the action", |stats| stats["live_threads"]["running"] == 0);
    assert_eq!((&stats["streams"]["opened"], &stats["streams"]["disconnected"]), (&object!(1), &object!(1)));
}

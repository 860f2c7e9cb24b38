//! An application on a file of its own.

use std::path::PathBuf;

use meshbus::app::App;
use meshbus::config::Config;
use meshbus::transport::Transport;

/// It runs; the file goes with it.
pub(crate) struct Case {
    pub(crate) app: App,
    pub(crate) file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Case {
    /// Starts what `text` configures, with these transports.
    pub(crate) async fn start(text: &str, transports: &'static [&'static dyn Transport]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bus.yaml");
        std::fs::write(&file, text).unwrap();
        let paths = vec![file.clone()];
        let config = Config::load(&paths, &|_| None, transports).unwrap();
        let app = App::new(config, paths, transports, None);
        app.start().await.unwrap();
        Self { app, file, _dir: dir }
    }
}

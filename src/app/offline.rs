//! The application without anything running: for `explain`, `test`, and whoever asks what a route would do.

use std::sync::Arc;

use super::App;
use crate::config::{Config, ConfigError};
use crate::transport::Transport;

impl App {
    /// The application with its connectors built and its routes set. Nothing is started, bound or connected to,
    /// and no secret is read: it only [`explain`](Self::explain)s.
    ///
    /// # Errors
    /// A connector that cannot be built.
    pub fn prepare(
        config: Config,
        transports: &'static [&'static dyn Transport],
    ) -> Result<Self, ConfigError> {
        let app = Self::new(config, Vec::new(), transports, None);
        let config: Arc<Config> = app.config();
        for fresh in app.build_changed(&config)? {
            app.0.connectors.lock().insert(fresh.name, fresh.running);
        }
        for route in &config.routes {
            // Its worker is not run: nothing is ever published here.
            drop(app.0.router.set(app.route_spec(route)));
        }
        Ok(app)
    }
}

# One replica: Puma in cluster mode. Everything comes from the launcher's environment.
workers Integer(ENV.fetch("WORKERS"))
threads Integer(ENV.fetch("THREADS")), Integer(ENV.fetch("THREADS"))
bind "tcp://127.0.0.1:#{ENV.fetch("PORT")}"
activate_control_app "tcp://127.0.0.1:#{ENV.fetch("CONTROL_PORT")}", auth_token: ENV.fetch("TOKEN")
rackup File.join(__dir__, "config.ru")
environment "production"
preload_app!
before_fork { ActiveRecord::Base.connection_pool.disconnect! }

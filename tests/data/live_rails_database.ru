# A Rails app with five database connections, whose action uses ActionController::Live and queries the database.
#
#   /loop    queries and writes an event every 0.2 s, forever
#   /page    queries the database
#   /state   the running actions, and the numbers of Puma and of the database pool, without a query
require 'action_controller/railtie'
require 'active_record/railtie'
require 'json'
require 'logger'
require 'sqlite3'

ENV['DATABASE_URL'] = "sqlite3:#{File.join(__dir__, 'app.sqlite3')}?pool=5&checkout_timeout=0.3"

class App < Rails::Application
  config.load_defaults Rails::VERSION::STRING.to_f
  config.eager_load = false
  config.secret_key_base = 'a secret of this test'
  config.logger = Logger.new(IO::NULL)
  config.root = __dir__
  config.hosts.clear
end

class Model < ActiveRecord::Base; end

RUNNING = {}

class LiveController < ActionController::Base
  include ActionController::Live

  def forever
    response.headers['Content-Type'] = 'text/event-stream'
    # Rack::ETag would collect the whole body.
    response.headers['Last-Modified'] = Time.now.httpdate
    RUNNING[Thread.current] = true
    loop do
      response.stream.write "data: #{Model.all.to_json}\n\n"
      sleep 0.2
    end
  ensure
    RUNNING.delete(Thread.current)
    response.stream.close
  end
end

class PagesController < ActionController::Base
  def page
    render plain: Model.count.to_s
  end

  def state
    stats = JSON.parse(Puma.stats)
    pool = ActiveRecord::Base.connection_pool.stat
    # This request holds a thread itself.
    render json: { rails: Rails.version, puma: Puma::Const::VERSION, running: RUNNING.size,
                   pool_capacity: stats['pool_capacity'] + 1, backlog: stats['backlog'],
                   size: pool[:size], busy: pool[:busy], waiting: pool[:waiting] }
  end
end

App.initialize!
ActiveRecord::Schema.verbose = false
ActiveRecord::Schema.define { create_table(:models) { |table| table.string :name } }
# Otherwise this thread would keep one of the five connections.
ActiveRecord::Base.connection_pool.disconnect!
App.routes.draw do
  get '/loop', to: 'live#forever'
  get '/page', to: 'pages#page'
  get '/state', to: 'pages#state'
end
run App

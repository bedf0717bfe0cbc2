# A Rails application in one file. Its stream holds a database connection. /page queries the database, and /up does
# not. RAILS_DB: the file of the SQLite database.
ENV['RAILS_ENV'] = 'production'
ENV['SECRET_KEY_BASE'] ||= 'for a test on this machine only'
ENV['DATABASE_URL'] = "sqlite3:#{ENV.fetch('RAILS_DB')}?pool=5&checkout_timeout=5"

require 'logger'
require 'action_controller/railtie'
require 'active_record/railtie'

class Ticks < Rails::Application
  config.root = __dir__
  config.eager_load = false
  config.logger = Logger.new(nil)
  config.hosts.clear
end

class Model < ActiveRecord::Base
end

class StreamsController < ActionController::Base
  include ActionController::Live

  def show
    response.headers['Content-Type'] = 'text/event-stream'
    # Without this header, Rack::ETag would read the whole stream to compute its digest.
    response.headers['Last-Modified'] = Time.now.httpdate
    loop do
      response.stream.write "data: #{Model.count}\n\n"
      sleep 1
    end
  rescue ActionController::Live::ClientDisconnected
    nil
  ensure
    response.stream.close
  end
end

class PagesController < ActionController::Base
  def page = render(plain: "#{Model.count}\n")
  def up = render(plain: "up\n")
end

Rails.application.initialize!
Rails.application.routes.draw do
  get '/stream' => 'streams#show'
  get '/page' => 'pages#page'
  get '/up' => 'pages#up'
end

ActiveRecord::Schema.verbose = false
ActiveRecord::Base.connection.create_table(:models, if_not_exists: true) { |t| t.string :name }
ActiveRecord::Base.connection_pool.release_connection

run Rails.application

# A Rails app in one file, which loads the listings of the pages.
#
#     ruby rails_app.rb LISTING…
#
# Runs the code of each listing in the real Rails, on a table with three rows, and prints the result of each as one
# line of JSON. Rails is loaded once. Each listing then runs in its own process, because several listings define a
# class of the same name. Each gem that Debian does not package is replaced by the one method that a listing calls.
#
# Ends with status 3 if Rails is not installed.
require 'json'
require 'logger'
require 'socket'
begin
  require 'action_controller/railtie'
  require 'active_record/railtie'
  require 'action_cable/engine'
  require 'action_cable/subscription_adapter/test'
  require 'sqlite3'
rescue LoadError
  exit 3
end

# Nothing connects to this database. Each listing has its own database in a file next to it.
ENV['DATABASE_URL'] = 'sqlite3::memory:'
LINES = StringIO.new

class App < Rails::Application
  config.load_defaults Rails::VERSION::STRING.to_f
  config.eager_load = false
  config.secret_key_base = 'a secret of this test'
  config.logger = Logger.new(LINES)
  config.cache_store = :memory_store
  config.root = __dir__
  config.hosts.clear
end
App.initialize!
ActionCable.server.config.cable = { 'adapter' => 'test' }
ActiveRecord::Schema.verbose = false

SENT = []
module SseRailsEngine
  def self.send_event(name, data) = SENT << [name, data.map(&:id)]
end

module MessageBus
  def self.publish(channel, data) = SENT << [channel, data['id']]
end

class ApplicationRecord < ActiveRecord::Base
  self.abstract_class = true
  def self.broadcasts_to(stream, inserts_by:) = after_commit { SENT << [stream.call(self), inserts_by.to_s] }
end

class ApplicationController < ActionController::Base; end

module ApplicationCable
  class Channel < ActionCable::Channel::Base; end
end

# The model of one listing calls the controller of the one before.
class OtherController
  def self.push(models) = SENT << ['push', models.map(&:id)]
end

def ask(path, fields = {})
  App.call(Rack::MockRequest.env_for(path, fields))
end

def run(listing)
  code = File.read(listing)
  done = { rails: Rails.version }
  ActiveRecord::Base.establish_connection("sqlite3:#{listing}.sqlite3")
  ActiveRecord::Schema.define { create_table(:models) { |table| table.string :name } }
  load listing
  Object.const_set(:ModelsController, OtherController) if code.include?('{ ModelsController.push')
  Object.const_set(:Model, Class.new(ApplicationRecord)) unless defined?(Model)
  3.times { |row| Model.create!(name: "row #{row + 1}") }
  done[:sent] = SENT
  done[:broadcast] = ActionCable.server.pubsub.broadcasts('models').map { |text| JSON.parse(text)['id'] }
  done[:version] = Rails.cache.read('models/version')
  done[:channel] = ModelsChannel.superclass.name if defined?(ModelsChannel)

  if defined?(ModelsController) && ModelsController < ApplicationController
    App.routes.draw do
      get '/models', to: 'models#index'
      get '/models/live_stream', to: 'models#live_stream'
    end
    marked = -> { done[:marked] = true }
    streams = ModelsController.method_defined?(:live_stream)
    path = streams ? '/models/live_stream' : '/models'
    status, headers, body = ask(path, 'HTTP_LAST_EVENT_ID' => '1', 'puma.mark_as_io_bound' => marked)
    done.merge!(status: status, headers: headers.to_h.select { |_, value| value.is_a?(String) })
    if (hijack = headers['rack.hijack'])
      ours, theirs = UNIXSocket.pair
      gone, closed = UNIXSocket.pair
      [theirs, closed].each(&hijack)
      gone.close
      2.times { ModelsController.push(Model.order(:id).last(1)) }
      done[:body] = ours.readpartial(4096)
      done[:listeners] = ModelsController::LISTENERS.size
    elsif streams
      # The client closes after the first event, so the action ends at its next write.
      done[:body] = +''
      body.each { |piece| break if (done[:body] << piece).end_with?("\n\n") }
      body.close
      logged = -> { LINES.string.include?('client disconnected') }
      end_of_patience = Process.clock_gettime(Process::CLOCK_MONOTONIC) + (code.include?('ClientDisconnected') ? 60 : 0)
      sleep 0.1 until logged.call || Process.clock_gettime(Process::CLOCK_MONOTONIC) > end_of_patience
      done[:log] = logged.call
    else
      body.each { |piece| done[:body] = piece }
      done[:again] = ask(path, 'HTTP_IF_NONE_MATCH' => headers['ETag'])[0]
    end
  end
  done
end

ARGV.each do |listing|
  Process.wait(fork { puts JSON.generate(run(listing)) })
  abort "#{listing}: #{$?}" unless $?.success?
end

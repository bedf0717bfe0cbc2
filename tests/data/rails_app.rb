# A Rails app in one file, into which one listing of a page is loaded.
#
#     ruby rails_app.rb LISTING DATABASE
#
# Runs what the listing defines in the real Rails, on a table with three rows, and prints as JSON what came of it. The
# gems that Debian does not have are replaced by the one method that a listing calls.
require 'json'
require 'logger'
require 'socket'
require 'action_controller/railtie'
require 'active_record/railtie'
require 'action_cable/engine'
require 'action_cable/subscription_adapter/test'

listing, database = ARGV
code = File.read(listing)
ENV['DATABASE_URL'] = "sqlite3:#{database}"
LINES = StringIO.new
done = { rails: Rails.version }

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
ActiveRecord::Schema.define { create_table(:models) { |table| table.string :name } }

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

load listing
ModelsController = OtherController if code.include?('{ ModelsController.push')
Object.const_set(:Model, Class.new(ApplicationRecord)) unless defined?(Model)
3.times { |row| Model.create!(name: "row #{row + 1}") }
done[:sent] = SENT
done[:broadcast] = ActionCable.server.pubsub.broadcasts('models').map { |text| JSON.parse(text)['id'] }
done[:version] = Rails.cache.read('models/version')
done[:channel] = ModelsChannel.superclass.name if defined?(ModelsChannel)

def ask(path, fields = {})
  App.call(Rack::MockRequest.env_for(path, fields))
end

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
    # A client that leaves after the first event: the action ends at its next write.
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
puts JSON.generate(done)

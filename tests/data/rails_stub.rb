# A stand-in for Rails that runs one listing of a page. It defines only the names that the listings use.
#
#     ruby rails_stub.rb LISTING LAST_EVENT_ID ROWS HELD
#
# Runs the only action of the listing's controller on a table of ROWS rows, while HELD permits of its semaphore are
# held, and prints what the action did as JSON. Time passes only in `sleep`, which also creates a row. The client
# disconnects after four writes. An empty LAST_EVENT_ID is a request without that header.
require 'json'

listing, last_event_id, rows, held = ARGV
$now = 0.0
$rows = Integer(rows)
$done = { writes: [], closed: 0, log: [], headers: nil }

module Kernel
  remove_method :sleep
  def sleep(seconds)
    $now += seconds
    $rows += 1
  end
end

Process.singleton_class.remove_method(:clock_gettime)
def Process.clock_gettime(_clock) = $now

Row = Struct.new(:id) do
  def to_json(*) = id.to_s
end

class ApplicationRecord
  def self.after_commit(on: nil, &block) = (@commits ||= []) << block
  def self.broadcasts_to(stream, inserts_by:) = (@streams ||= []) << [stream, inserts_by]
end

class Model < ApplicationRecord
  Relation = Struct.new(:rows) do
    def order(_column) = self
    def to_a = rows
  end

  def self.where(condition, id)
    raise ArgumentError, condition unless condition == 'id > ?'

    Relation.new((id + 1..$rows).map { |row| Row.new(row) })
  end

  def self.last(count) = (1..$rows).map { |row| Row.new(row) }.last(count)
end

module ActionController
  module Live
    class ClientDisconnected < IOError; end

    class SSE
      def initialize(_stream, retry:)
        @retry = binding.local_variable_get(:retry) # a keyword
      end

      def write(models, id:)
        raise ClientDisconnected if $done[:writes].size == 4

        $done[:writes] << [models.map(&:id), id, @retry]
      end

      def close = $done[:closed] += 1
    end
  end
end

module Concurrent
  Array = ::Array

  class Semaphore
    attr_reader :permits

    def initialize(permits) = @permits = permits
    def try_acquire = @permits.positive? && (@permits -= 1) && true
    def release = @permits += 1
  end
end

module Rails
  Cache = Struct.new(:version) do
    def read(_key) = version
    def write(_key, version) = self.version = version
    def fetch(_key, race_condition_ttl:) = yield
  end

  def self.cache = @cache ||= Cache.new(0)
end

class ApplicationController
  Request = Struct.new(:headers, :env)
  Response = Struct.new(:headers, :stream)
  Logger = Struct.new(:lines) do
    def info(line) = lines << line
  end

  attr_reader :request, :response, :logger

  def initialize(last_event_id)
    headers = last_event_id.empty? ? {} : { 'Last-Event-ID' => last_event_id }
    marked = -> { $done[:marked] = true }
    @request = Request.new(headers, { 'puma.mark_as_io_bound' => marked })
    @response = Response.new($done[:headers] = {}, Object.new)
    @logger = Logger.new($done[:log])
  end

  def head(status, content_type:) = $done[:head] = [status, content_type]
  def stale?(etag:) = ($done[:etag] = etag) || true
  def render(json:) = $done[:json] = json.map(&:id)
end

class Time
  def httpdate = strftime('%a, %d %b %Y %H:%M:%S GMT')
end

load listing
actions = ModelsController.public_instance_methods(false)
raise "the controller must have one action, not #{actions}" unless actions.size == 1

streams = ModelsController.const_get(:STREAMS) if ModelsController.const_defined?(:STREAMS)
Integer(held).times { streams.try_acquire }
ModelsController.new(last_event_id).public_send(actions.first)
$done[:permits] = streams.permits if streams
if (hijack = $done[:headers]['rack.hijack'])
  # A listener that accepts everything, one that accepts a part, and one that has closed.
  Listener = Struct.new(:takes, :got, :is_closed) do
    def write_nonblock(bytes)
      raise Errno::EPIPE unless takes

      got << bytes[0, takes]
      [takes, bytes.bytesize].min
    end

    def close = self.is_closed = true
  end
  listeners = [1000, 3, nil].map { |takes| Listener.new(takes, [], false) }
  listeners.each(&hijack)
  2.times { ModelsController.push(Model.last(2)) }
  $done[:got] = listeners.map(&:got)
  $done[:cut] = listeners.map(&:is_closed)
  $done[:listeners] = ModelsController::LISTENERS.size
end
puts JSON.generate($done)

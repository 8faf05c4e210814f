# A small but real Rails application: routing, controller, ActiveRecord on SQLite, JSON.
# GET /       one page of an order book: a query with a join and a sum, and some work on the result
# GET /up     readiness: the database answers
require "digest"
require "rails"
require "action_controller/railtie"
require "active_record/railtie"

class Shop < Rails::Application
  config.eager_load = true
  config.consider_all_requests_local = false
  config.secret_key_base = "demo" * 16
  config.hosts.clear
  config.logger = Logger.new($stdout, level: Logger::WARN)
  routes.append do
    root to: "orders#index"
    get "/up", to: "orders#up"
  end
end

ENV["DATABASE_URL"] = "sqlite3:#{ENV.fetch("DATABASE")}?pool=#{ENV.fetch("THREADS", 5)}&readonly=true"

class Customer < ActiveRecord::Base; end

class Order < ActiveRecord::Base
  belongs_to :customer
end

class OrdersController < ActionController::API
  def index
    customer = rand(1..500)
    orders = Order.includes(:customer).where(customer_id: customer).order(:placed).limit(20).to_a
    total = Order.where(customer_id: customer).sum(:cents)
    digest = orders.inject("") { |seed, order| Digest::SHA256.hexdigest(seed + order.note) }
    render json: { customer: customer, total: total, seal: digest, orders: orders.map { |o| [o.id, o.cents, o.customer.name] } }
  end

  def up
    Order.connection.select_value("SELECT 1")
    head :no_content
  end
end

Shop.initialize!
run Shop

#!/usr/bin/env node
// Prisma's schema engine, for images that are built without Prisma's native one.
//
// Prisma starts it as PRISMA_SCHEMA_ENGINE_BINARY and talks to it on stdio. All that migrations mean is done by the
// WebAssembly engine of @prisma/schema-engine-wasm; this program gives it a connection and passes questions and answers.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { PrismaPg } from '@prisma/adapter-pg'
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils'
import * as wasm from '@prisma/schema-engine-wasm/schema_engine_bg'

const RENAMED = { getDatabaseVersion: 'version' }
const CONNECTION_CODES = {
  AuthenticationFailed: 'P1000',
  DatabaseNotReachable: 'P1001',
  DatabaseDoesNotExist: 'P1003',
  DatabaseAccessDenied: 'P1010',
  TlsConnectionError: 'P1011',
}

/** Sends a script as one query, so that PostgreSQL runs all of it in one transaction; the adapter would split it. */
class Postgres extends PrismaPg {
  async connect() {
    const adapter = await super.connect()
    adapter.executeScript = async (script) => {
      await adapter.underlyingDriver().query(script).catch((error) => adapter.onError(error))
    }
    return adapter
  }
}

/** Fields of a connection. No connection string: the shadow database of `migrate diff` would then be the main one. */
function connectionOf(url) {
  const tls = url.searchParams.get('sslmode') ?? 'prefer'
  if (!['disable', 'allow', 'prefer'].includes(tls)) throw new Error(`sslmode=${tls}: this engine knows no TLS`)
  return {
    host: url.hostname,
    port: Number(url.port || 5432),
    user: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
    database: decodeURIComponent(url.pathname.slice(1)),
    max: 1, // Prisma's advisory lock belongs to a session
    idleTimeoutMillis: 0,
    connectionTimeoutMillis: 10_000,
  }
}

function valuesOf(option) {
  return process.argv.filter((_, index) => process.argv[index - 1] === option)
}

function databaseOf() {
  const given = JSON.parse(valuesOf('--datasource')[0] ?? '{}').url ?? process.env.DATABASE_URL
  if (!given) throw new Error('the data source has no URL: is DATABASE_URL set?')
  const url = new URL(given)
  return new Postgres(connectionOf(url), { schema: url.searchParams.get('schema') ?? 'public' })
}

/** `cli can-connect-to-database`: exit code 0, or a line that says why not. */
async function canConnect() {
  try {
    const adapter = await databaseOf().connect()
    await adapter.queryRaw({ sql: 'SELECT 1', args: [], argTypes: [] })
    return 0
  } catch (error) {
    const fields = { error_code: CONNECTION_CODES[error.cause?.kind] ?? 'P1001', message: describe(error) }
    // Prisma passes over the first line.
    process.stderr.write(`\n${JSON.stringify({ level: 'ERROR', target: 'schema_engine::logger', fields })}\n`)
    return 1
  }
}

function describe(error) {
  return error.cause?.originalMessage ?? error.message ?? String(error)
}

async function load() {
  const file = fileURLToPath(import.meta.resolve('@prisma/schema-engine-wasm/schema_engine_bg')).replace(/js$/, 'wasm')
  const { instance } = await WebAssembly.instantiate(readFileSync(file), { './schema_engine_bg.js': wasm })
  wasm.__wbg_set_wasm(instance.exports)
  instance.exports.__wbindgen_start()
  const datamodels = valuesOf('--datamodels').map((path) => [path, readFileSync(path, 'utf8')])
  const database = bindMigrationAwareSqlAdapterFactory(databaseOf())
  return wasm.SchemaEngine.new({ datamodels: datamodels.length ? datamodels : undefined }, () => {}, database)
}

async function answer(engine, { id, method, params }) {
  const name = RENAMED[method] ?? method
  try {
    if (typeof engine[name] !== 'function') throw new Error(`this engine has no method ${method}`)
    const result = await engine[name](Array.isArray(params) ? params[0] : params)
    return { jsonrpc: '2.0', id, result: result ?? {} }
  } catch (error) {
    const data = { is_panic: false, message: describe(error), error_code: error.code, meta: error.meta ?? {} }
    return { jsonrpc: '2.0', id, error: { code: 4466, message: 'An error happened.', data } }
  }
}

/** One question and one answer a line, in turn, until Prisma closes its end. */
async function serve() {
  const engine = await load()
  for await (const line of createInterface({ input: process.stdin })) {
    const question = line.trim() ? JSON.parse(line) : {}
    if (question.method) process.stdout.write(`${JSON.stringify(await answer(engine, question))}\n`)
  }
  return 0
}

if (process.argv.includes('--version')) {
  console.log('schema-engine-cli wasm')
} else if (process.argv.includes('cli')) {
  if (!process.argv.includes('can-connect-to-database')) {
    console.error(`\n${JSON.stringify({ level: 'ERROR', target: 'schema_engine::logger', fields: {
      error_code: 'P1003', message: 'This engine does not create databases: create it first.' } })}`)
    process.exit(1)
  }
  process.exit(await canConnect())
} else {
  process.exit(await serve())
}

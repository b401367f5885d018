/**
 * A conversation with an FRR daemon over its vty socket, as vtysh has it (lib/vty.c, vtysh.c): a
 * command ends with a zero byte; the answer is text, three zero bytes and the status.
 */
import { connect, type Socket } from 'node:net'
import { RoutingDaemonError } from './daemon.ts'

export const limits = { answerMs: 5_000, answerSizeMax: 64 * 1024 * 1024 } as const

export interface VtyAnswer {
  readonly text: string
  /** 0 is CMD_SUCCESS of lib/command.h, 1 is CMD_WARNING. */
  readonly status: number
}

/** Takes answers apart as their bytes come. */
export class VtyReader {
  #parts: Buffer[] = []
  #size = 0

  /** The answers that are whole now. @throws RoutingDaemonError when one is too long */
  push(bytes: Buffer): readonly VtyAnswer[] {
    this.#parts.push(bytes)
    this.#size += bytes.length
    if (this.#size > limits.answerSizeMax)
      throw new RoutingDaemonError('NO_ANSWER', 'an answer of the routing daemon has no end')
    // Zeros come at the end only: text holds none.
    if (bytes.lastIndexOf(0) < 0 && this.#parts.length > 1 && !this.#mayEnd()) return []
    let all = this.#parts.length === 1 ? bytes : Buffer.concat(this.#parts)
    const answers: VtyAnswer[] = []
    for (let end = all.indexOf(ending); end >= 0; end = all.indexOf(ending)) {
      const status = all[end + ending.length]
      if (status === undefined) break
      answers.push({ text: all.toString('utf8', 0, end), status })
      all = all.subarray(end + ending.length + 1)
    }
    this.#parts = all.length === 0 ? [] : [all]
    this.#size = all.length
    return answers
  }

  /** Whether only the status was missing from what came before. */
  #mayEnd(): boolean {
    return this.#parts.at(-2)?.at(-1) === 0
  }
}

const ending = Buffer.from([0, 0, 0])

/** An open conversation; one command at a time. */
export class Vty {
  readonly #socket: Socket
  readonly #reader = new VtyReader()
  #waiting: { resolve(answer: VtyAnswer): void; reject(error: Error): void } | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (bytes) => {
      try {
        for (const answer of this.#reader.push(bytes)) this.#take(answer)
      } catch (error) {
        socket.destroy(error instanceof Error ? error : undefined)
      }
    })
    socket.on('error', (error) => this.#fail(error))
    socket.on('close', () => this.#fail(undefined))
  }

  /** @throws RoutingDaemonError code `NO_ANSWER` when nobody listens at `path` */
  static open(path: string): Promise<Vty> {
    return new Promise((resolve, reject) => {
      const socket = connect(path)
      const timer = setTimeout(() => socket.destroy(noAnswer(path)), limits.answerMs)
      socket.once('error', (error) => {
        clearTimeout(timer)
        reject(noAnswer(path, error))
      })
      socket.once('connect', () => {
        clearTimeout(timer)
        socket.removeAllListeners('error')
        resolve(new Vty(socket))
      })
    })
  }

  /** The answer to a command. @throws RoutingDaemonError code `REFUSED` without the command's text */
  async ask(command: string): Promise<string> {
    const { text, status } = await this.#say(command)
    if (status <= 1) return text
    // A password must not get into a log by way of an error.
    const said = /password/.test(command) ? 'neighbor … password …' : command
    throw new RoutingDaemonError('REFUSED', `the routing daemon refuses "${said}"`)
  }

  async askAll(commands: readonly string[]): Promise<void> {
    for (const command of commands) await this.ask(command)
  }

  close(): void {
    this.#socket.destroy()
  }

  #say(command: string): Promise<VtyAnswer> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#socket.destroy(noAnswer('the daemon')), limits.answerMs)
      this.#waiting = {
        resolve(answer) {
          clearTimeout(timer)
          resolve(answer)
        },
        reject(error) {
          clearTimeout(timer)
          reject(error)
        },
      }
      this.#socket.write(`${command}\0`)
    })
  }

  #take(answer: VtyAnswer): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.resolve(answer)
  }

  #fail(error: Error | undefined): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.reject(error instanceof RoutingDaemonError ? error : noAnswer('the daemon', error))
  }
}

function noAnswer(what: string, cause?: Error): RoutingDaemonError {
  return new RoutingDaemonError('NO_ANSWER', `the routing daemon does not answer: ${what}`, {
    cause,
  })
}

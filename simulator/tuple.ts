/** Pieces of the tuples that connections are told apart by. */
import { protoIcmp, protoIcmpv6 } from '../packet/extract.ts'
import type { FlowKey } from '../packet/flow-key.ts'
import type { AddressBook } from './address-book.ts'
import { word } from './simulation.ts'

/** Types of echoes. */
export const echo4 = { request: 8, reply: 0 } as const
export const echo6 = { request: 128, reply: 129 } as const

/** Whether the protocol has echoes, under either version of IP. */
export function isIcmpProtocol(protocol: number): boolean {
  return protocol === protoIcmp || protocol === protoIcmpv6
}

/** The number of an address of a flow key. */
export function numberAt(book: AddressBook, key: FlowKey, at: 10 | 14): number {
  return book.numberOf(word(key, at), word(key, at + 1), word(key, at + 2), word(key, at + 3))
}

/** Source port for destination port; a signed number, as tuples have them. */
export function swapPorts(ports: number): number {
  return (ports >>> 16) | (ports << 16)
}

/** An echo without its id: its type stands where the asked one's port would. */
export function echoPorts(isRequest: boolean): number {
  return isRequest ? echo4.request : echo4.request << 16
}

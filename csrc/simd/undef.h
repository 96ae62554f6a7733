#undef T
#undef vec
#undef mask
#undef LANES
#undef V
#undef FGD_T_SUFFIX
#undef FGD_T_IS_F32
#undef FGD_T_FN
